"""Files of a checkpoint, of which each byte is read once, and hashed beside it.

    with read(path, record["files"][name]) as file:
        state = state_files.read(file, "cpu", ..., mapped=True)   # views of the bytes that were hashed

What is loaded is thus what was verified, even if the disk gives other bytes the next time. Threads read the
chunks ahead of the hash, from the disk into the place where they are loaded from: no copy in between.
"""

from __future__ import annotations

import io
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import xxhash

from kit.training import direct_io

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Any, BinaryIO

    from kit.store.records import Output

_CHUNK = 8 << 20  # bytes
_AHEAD = 4  # chunks that are read, or whose pages are made, while one is hashed, each by a thread


class Damaged(Exception):  # noqa: N818  found in a file, no error of ours
    """Raised for a file that is not as it was written, with what is wrong."""


class FileInMemory:
    """A file in memory. Tensors that are views of it keep its bytes after `close`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory: mmap.mmap | None = direct_io.pages(size)

    @property
    def memory(self) -> memoryview:
        """The bytes, in whole pages: some more than the file has."""
        assert self._memory is not None, "closed"
        return memoryview(self._memory)

    def open(self) -> BinaryIO:
        """A stream of the file's bytes."""
        stream: Any = _Stream(self.memory[: self.size])
        return stream  # type: ignore[no-any-return]  # torch asks for no more than it has

    def close(self) -> None:
        """Give the memory back, unless there are views of it."""
        self._memory = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path, expected: Output, *, shared: bool = False) -> FileInMemory:
    """Read a file into memory. Raises Damaged unless it has the expected size and hash, or OSError.

    `shared`: other ranks of the node read it as well, so all of them read it through the page cache.
    """
    file = FileInMemory(expected["size"])
    memory = file.memory
    _read(path, expected, lambda at: memory[at : at + _CHUNK], shared=shared)
    return file


def verify(path: Path, expected: Output) -> None:
    """The same, without keeping the bytes."""
    places = memoryview(direct_io.pages((_AHEAD + 1) * _CHUNK))
    _read(path, expected, lambda at: places[at % len(places) :][:_CHUNK])


def _read(
    path: Path, expected: Output, place: Callable[[int], memoryview], *, shared: bool = False
) -> None:
    """Read and hash a file; `place` is where to read the chunk at an offset.

    A place is used again once the chunk before in it is hashed. All of it releases the interpreter's lock.
    """
    digest, size = xxhash.xxh3_128(), expected["size"]
    descriptor = _opened(path, shared=shared)
    chunks: deque[Callable[[], memoryview]] = deque()
    try:
        if (found := os.fstat(descriptor).st_size) != size:
            raise Damaged(f"{path.name} has {found} of {size} bytes")
        with ThreadPoolExecutor(_AHEAD) as threads, ThreadPoolExecutor(1) as in_order:
            for at in range(0, size, _CHUNK):
                own = (descriptor, place(at), at, min(_CHUNK, size - at))
                if shared:
                    # One reader: two would look like jumps, and the kernel would not read ahead.
                    touched = threads.submit(direct_io.touch, own[1])
                    job = in_order.submit(_chunk_in, touched, *own)
                else:
                    job = threads.submit(_chunk, *own)
                chunks.append(job.result)
                if len(chunks) > _AHEAD:
                    digest.update(chunks.popleft()())
            for chunk in chunks:
                digest.update(chunk())
    finally:
        os.close(descriptor)
    if digest.hexdigest() != expected["xxh3"]:
        raise Damaged(f"{path.name} has changed since it was written")


def _opened(path: Path, *, shared: bool) -> int:
    try:
        if not shared:
            return direct_io.open_file(path, os.O_RDONLY)
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return descriptor


def _chunk(descriptor: int, place: memoryview, at: int, size: int) -> memoryview:
    """The bytes at an offset; fewer where another process has cut the file."""
    return place[: direct_io.read_at(descriptor, place, at, size)]


def _chunk_in(
    touched: Future[None], descriptor: int, place: memoryview, at: int, size: int
) -> memoryview:
    """The same, once the pages of the place are there."""
    touched.result()
    return _chunk(descriptor, place, at, size)


class _Stream(io.RawIOBase):
    """The bytes of a buffer as a file that is read."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, place: Any, /) -> int:
        wanted = memoryview(place).cast("B")
        part = self._data[self._at : self._at + len(wanted)]
        wanted[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        self._at = begin + offset
        return self._at
