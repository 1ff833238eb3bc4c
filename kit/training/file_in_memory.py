"""Files of a checkpoint, of which each byte is read once, and hashed on its way into memory.

    with read(path, record["files"][name]) as file:
        state = torch.load(file.path, mmap=True)     # its tensors are views of the bytes that were hashed

What is loaded is thus what was verified, even if the disk gives other bytes the next time. The memory is an
anonymous file (memfd_create(2)), which torch can map: it has no name in any folder, and is gone with the
process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.store.records import Output

_CHUNK = 1 << 20  # bytes: hashed while they are in the processor's cache


class Damaged(Exception):  # noqa: N818  found in a file, no error of ours
    """Raised for a file that is not as it was written, with what is wrong."""


class FileInMemory:
    """A file in memory. Whoever mapped `path` keeps its bytes after `close`."""

    def __init__(self, name: str) -> None:
        self._descriptor = os.memfd_create(name)
        self.path = Path(f"/proc/self/fd/{self._descriptor}")

    def append(self, data: memoryview) -> None:
        """Add bytes. Raises OSError."""
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Give the memory back, unless it is still mapped."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path, expected: Output) -> FileInMemory:
    """Read a file into memory. Raises Damaged unless it has the expected size and hash, or OSError."""
    file = FileInMemory(path.name)
    try:
        _read(path, expected, file.append)
    except BaseException:
        file.close()
        raise
    return file


def verify(path: Path, expected: Output) -> None:
    """The same, without keeping the bytes."""
    _read(path, expected, lambda _: None)


def _read(path: Path, expected: Output, keep: Callable[[memoryview], None]) -> None:
    """Read and hash a file, and keep it chunk by chunk; all of it releases the interpreter's lock."""
    digest, size = xxhash.xxh3_128(), expected["size"]
    buffer = memoryview(bytearray(_CHUNK))
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    try:
        if (found := os.fstat(descriptor).st_size) != size:
            raise Damaged(f"{path.name} has {found} of {size} bytes")
        at = 0
        while at < size:
            if not (count := os.readv(descriptor, [buffer[: size - at]])):
                raise Damaged(f"{path.name} has {at} of {size} bytes")
            digest.update(buffer[:count])
            keep(buffer[:count])
            at += count
    finally:
        os.close(descriptor)
    if digest.hexdigest() != expected["xxh3"]:
        raise Damaged(f"{path.name} has changed since it was written")
