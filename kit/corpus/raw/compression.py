"""Compressed texts as streams of bytes, read to their very end.

Python's own openers take what follows a stream and is no stream for the end of the file, so that a
damaged second stream would shorten a text without a word; here that is an error. What one call
gives is bounded, whatever the file expands to.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any, Protocol, Self

import zstandard

from kit.errors import InputError
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

_XZ_MEMORY = 1 << 30  # bytes: `xz -9` needs 65 MB to decompress
_ZSTD_SIP = 1 << 8  # compressed bytes: zstd cannot be told where to stop; 8 MB can come of them


def is_packed(path: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return path.suffix.lower() in _ENGINES


class Unpacked:
    """The text of a .xz, .gz, .bz2 or .zst file of any number of streams."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._suffix = path.suffix.lower()
        self._file = path.open("rb")
        self._engine = _ENGINES[self._suffix]()
        self._in_stream = True  # an empty file is a cut one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        """Compressed bytes read so far."""
        return self._file.tell()

    def read(self, size: int = CHUNK) -> bytes:
        """About `size` bytes of the text; none only at its end.

        Raises InputError where the file is damaged, or ends too early.
        """
        parts: list[bytes] = []
        got = 0
        try:
            while got < size and self._more():
                part = self._engine.decompress(self._feed, size - got)
                got += len(part)
                parts.append(part)
        except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
            raise InputError(
                f"{self._path}: damaged or cut at about byte {self.position} ({error}); get it again"
            ) from None
        return b"".join(parts)

    def _more(self) -> bool:
        """Make ready what the engine is fed next; False at the end of the last stream."""
        sip = _ZSTD_SIP if self._suffix == ".zst" else CHUNK >> 3
        self._feed = b""
        if self._engine.eof:
            self._feed = self._without_padding(self._engine.unused_data)
            while not self._feed:
                raw = self._file.read(sip)
                if not raw:
                    return False
                self._feed = self._without_padding(raw)
            self._engine = _ENGINES[self._suffix]()
        elif self._engine.needs_input:
            self._feed = self._file.read(sip)
            if not self._feed:
                raise EOFError("it ends within a stream" if self.position else "it is empty")
        return True

    def _without_padding(self, data: bytes) -> bytes:
        """xz and gzip allow null bytes behind a stream."""
        return data.lstrip(b"\0") if self._suffix in (".xz", ".gz") else data


class _Engine(Protocol):
    """What bz2 and lzma call a decompressor."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib in the manner of bz2 and lzma."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)  # 31: with gzip's header and trailer

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstd:
    """zstd in the same manner, but for the length."""

    needs_input = True

    def __init__(self) -> None:
        self._inner: Any = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        return bytes(self._inner.decompress(data))


def _xz() -> _Engine:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)


_ENGINES: dict[str, Any] = {
    ".xz": _xz,
    ".gz": _Gzip,
    ".bz2": bz2.BZ2Decompressor,
    ".zst": _Zstd,
}
