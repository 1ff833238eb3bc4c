"""Compressed texts as streams of bytes, read to their very end.

Python's own openers take invalid bytes after a stream for the end of the file, so that a damaged second
stream would silently shorten a text; here that is an error. The size of one read is bounded, however
much the file expands.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any, Protocol, Self

import zstandard

from kit.errors import DamagedFile
from kit.store.files import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

_XZ_MEMORY = 1 << 30  # bytes: `xz -9` needs 65 MB to decompress
_ZSTD_SIP = 1 << 8  # compressed bytes: zstd has no limit on its output; they can expand to 8 MB


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        """Compressed bytes read so far."""
        return self._file.tell()

    def read(self, size: int = CHUNK) -> bytes:
        """Read about `size` bytes of the text; empty only at its end.

        Raises DamagedFile if it is damaged or truncated.
        """
        parts: list[bytes] = []
        length = 0
        try:
            while length < size and self._more():
                part = self._engine.decompress(self._feed, size - length)
                length += len(part)
                parts.append(part)
        except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
            raise DamagedFile(
                f"{self._path}: damaged or truncated near byte {self.position} ({error}); "
                "get a fresh copy"
            ) from None
        return b"".join(parts)

    def _more(self) -> bool:
        """Read the engine's next input; False at the end of the last stream."""
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
                raise EOFError("it ends within a stream" if self.position else "the file is empty")
        return True

    def _without_padding(self, data: bytes) -> bytes:
        """The data without the null bytes that xz and gzip allow after a stream."""
        return data.lstrip(b"\0") if self._suffix in (".xz", ".gz") else data


class _Engine(Protocol):
    """The interface of the decompressors of bz2 and lzma."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib with the interface of bz2 and lzma."""

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
    """zstd with the same interface, except that it ignores the length."""

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
    ".tgz": _Gzip,
    ".bz2": bz2.BZ2Decompressor,
    ".zst": _Zstd,
}
