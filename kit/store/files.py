"""Files that are whole or absent: atomic writes, hashes, compressed text.

A file is written under a temporary name in the same directory, synced and renamed; then the directory is
synced. A reader never sees half a file, and a task that dies leaves only a file that `is_temporary`
recognises.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import uuid
from typing import IO, TYPE_CHECKING, Any, cast

import xxhash
import zstandard

from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 20
_TEMPORARY = ".partial-"
_ZSTD_LEVEL = 3  # the library's default: reads 1 GB/s, and packs Japanese text tighter than xz -1


@contextlib.contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open `path` for writing; the file appears only if the block ends without an exception.

    Creates the directory if necessary. Raises OSError as `open` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:12]}-{path.name}")
    encoding = None if "b" in mode else "utf-8"
    try:
        with temporary.open(mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether the name is one of `atomic` for an unfinished file."""
    return path.name.startswith(_TEMPORARY)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, as UTF-8."""
    with atomic(path, "w") as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON with sorted keys: equal values give equal bytes."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a rename is durable only after its directory is synced."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(path: Path) -> None:
    """Sync a file that a library wrote, with the mode that `open` would have given it.

    Libraries rename temporary files, which only their user may read.
    """
    fresh = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:12]}")
    try:
        # Its mode follows the umask, or the default ACL of the folder.
        with fresh.open("xb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
    finally:
        fresh.unlink(missing_ok=True)
    with path.open("rb") as stream:
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())


def file_hash(path: Path, start: int = 0, end: int | None = None) -> str:
    """xxh3-128 of the file's bytes [start, end), in hex: detects damage, but is not cryptographic."""
    digest = xxhash.xxh3_128()
    left = (path.stat().st_size if end is None else end) - start
    with path.open("rb") as stream:
        stream.seek(start)
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex: what others check downloads with."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_blob(path: Path) -> str:
    """The hash by which git knows the content of a file, in hex."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def append_line(path: Path, text: str) -> None:
    """Append a line; if a crash has cut the previous one, start on a new line."""
    with path.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            text = text if stream.read(1) == b"\n" else f"\n{text}"
        stream.write(f"{text}\n".encode())


def text_hash(text: str) -> int:
    """xxh3-64 of the text's UTF-8 bytes: 0 to 2**64 - 1, the same on every machine."""
    return xxhash.xxh3_64_intdigest(text.encode())


@contextlib.contextmanager
def zstd_writer(path: Path) -> Iterator[IO[str]]:
    """Write UTF-8 text to a zstd file with a checksum, atomically. Equal text gives equal bytes."""
    with atomic(path) as raw:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        with compressor.stream_writer(raw, closefd=False) as packed:
            text = io.TextIOWrapper(cast("IO[bytes]", packed), encoding="utf-8", newline="\n")
            yield text
            text.flush()
            text.detach()


@contextlib.contextmanager
def zstd_reader(path: Path) -> Iterator[IO[str]]:
    """Read UTF-8 text from a zstd file. Raises InputError if it is damaged or truncated."""
    with path.open("rb") as raw:
        packed = io.BufferedReader(ZstdReader(raw))
        try:
            with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text:
                yield text
        except (EOFError, UnicodeDecodeError, zstandard.ZstdError) as error:
            raise InputError(
                f"{path}: damaged or truncated ({error}); run the job that made it with --verify, to make "
                "it again"
            ) from None


class ZstdReader(io.RawIOBase):
    """The bytes of a zstd file; unlike zstandard's reader, it raises EOFError if the file is truncated."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")
        self._inside_frame = True  # an empty file counts as truncated

    def readable(self) -> bool:
        """Always True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase; raises EOFError, zstandard.ZstdError."""
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._inside_frame = bool(packed)
            packed = packed or self._packed.read(CHUNK)
            if not packed:
                if self._inside_frame:
                    raise EOFError("the file ends inside a zstd frame")
                return 0
            self._inside_frame = True
            self._ready = memoryview(self._frame.decompress(packed))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
