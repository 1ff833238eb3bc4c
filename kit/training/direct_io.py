"""Reading and writing of files without the page cache, where their file system can: O_DIRECT in open(2).

The kernel then copies no byte, and keeps no page that nobody reads again: a quarter of the processor time
of a write through the cache. Offsets, sizes and places in memory are whole pages; the rest (the end of a
file, headers between tensors) goes through a buffer. A file system that refuses gets ordinary calls.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096  # bytes: offsets of O_DIRECT on every file system that has it, and the least page of memory
_BUFFER = 1 << 20  # bytes
_DIRECTLY = 64 << 10  # bytes from which a call of its own is worth it


def pages(size: int) -> mmap.mmap:
    """Memory of whole pages, not written to yet.

    A child that is forked does not get it: it would share pages that the disk is filling, which before
    Linux 5.19 could leave the parent with a stale copy (open(2), O_DIRECT).
    """
    memory = mmap.mmap(-1, max(whole(size), PAGE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_DONTFORK)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)  # made in a third of the time
    return memory


def touch(memory: memoryview) -> None:
    """Have the kernel make the pages of new memory: it is slow at that within a read through the cache.

    Releases the interpreter's lock.
    """
    np.frombuffer(memory, np.uint8)[::PAGE] = 0


def whole(size: int) -> int:
    """Bytes of the pages that hold `size` bytes."""
    return -(-size // PAGE) * PAGE


def open_file(path: Path, flags: int) -> int:
    """A descriptor, without the page cache if that is possible. Raises OSError."""
    try:
        return os.open(path, flags | os.O_DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.open(path, flags, 0o666)


def read_at(descriptor: int, place: memoryview, at: int, size: int) -> int:
    """Read up to `size` bytes at an offset to the begin of `place`, whole pages; fewer at the end."""
    done = 0
    while done < size:
        try:
            count = os.preadv(descriptor, [place[done:]], at + done)
        except OSError as error:
            _use_cache(descriptor, error)
            continue
        if not count:
            break
        done += count
    return min(done, size)


class Writer:
    """A new file that is written from its begin to its end. All methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._buffer, self._held = memoryview(pages(_BUFFER)), 0

    @property
    def direct(self) -> bool:
        """Whether bytes go to the disk at once."""
        return bool(fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_DIRECT)

    def write(self, data: memoryview) -> None:
        """Append bytes; those in whole pages of memory are written from there."""
        while data:
            own_pages = len(data) >= _DIRECTLY and not _address(data) % PAGE
            if own_pages and not self._held % PAGE:
                self._flush()
                count = len(data) // PAGE * PAGE
                self._put(data[:count])
            else:
                count = min(len(data), _BUFFER - self._held)
                self._buffer[self._held : self._held + count] = data[:count]
                self._held += count
                if self._held == _BUFFER:
                    self._flush()
            data = data[count:]

    def sync(self) -> None:
        """Write the rest in the buffer, and wait until all is on the disk."""
        rest = self._held % PAGE
        end = bytes(self._buffer[self._held - rest : self._held])
        self._held -= rest
        self._flush()
        if end:
            _through_cache(self._descriptor)
            self._put(memoryview(end))
        os.fsync(self._descriptor)

    def sync_data(self) -> None:
        """Wait until all bytes written so far are on the disk: those past the cache are."""
        if not self.direct:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _flush(self) -> None:
        self._put(self._buffer[: self._held])
        self._held = 0

    def _put(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                _use_cache(self._descriptor, error)


def _use_cache(descriptor: int, error: OSError) -> None:
    """Go through the page cache after a call that was refused without it; else raise the error."""
    if error.errno != errno.EINVAL or not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
        raise error
    _through_cache(descriptor)


def _through_cache(descriptor: int) -> None:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)


def _address(data: memoryview) -> int:
    return int(np.frombuffer(data, np.uint8).ctypes.data)
