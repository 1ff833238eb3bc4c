"""Copy of a rank's state in host memory: taken in the loop, written in the background."""

from __future__ import annotations

import contextlib
import copy
import mmap
import os
from typing import IO, TYPE_CHECKING, Any, cast

import torch
import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kit.store.records import Output

_CONTAINERS = (dict, list, tuple)
_ALIGNMENT = 64  # bytes: a cache line
_CHUNK = 4 << 20  # bytes that are hashed and written at a time: the second finds them in a cache


class HostCopy:
    """Copies a state into memory that the next save uses again.

    The memory is one region of whole pages, no larger than the state: torch's allocator of pinned memory
    would round each tensor up to a power of two. Tensors that share memory (tied weights) share it in the
    copy. Anything but tensors and plain containers gets a shallow copy: in DeepSpeed's state these are
    plain values, and objects of them.
    """

    def __init__(self, pin: Callable[[int, int], None] | None = None) -> None:
        """`pin` locks memory, given by address and size in bytes, for copies from a GPU; None: a CPU."""
        self._pin = pin
        self._regions: list[_Region] = []
        self._buffers: dict[str, torch.Tensor] = {}
        self._copied: dict[tuple[Any, ...], torch.Tensor] = {}

    @property
    def reserved(self) -> list[int]:
        """The sizes of the regions, in bytes."""
        return [region.size for region in self._regions]

    def reserve(self, size: int) -> None:
        """Allocate a region, and write to all its pages: a save then finds them."""
        self._regions.append(_Region(size, self._pin))

    def take(self, name: str, state: Any) -> Any:
        """Copy `state`; the copy is valid until the next one of that name."""
        self._copied = {}
        try:
            return self._copy(name, state)
        finally:
            self._copied = {}

    def _copy(self, path: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(path, value.detach())
        if type(value) in _CONTAINERS or type(value).__name__ == "OrderedDict":
            if isinstance(value, dict):
                pairs = [(key, self._copy(f"{path}/{key}", item)) for key, item in value.items()]
                return type(value)(pairs)
            return type(value)(self._copy(f"{path}/{i}", item) for i, item in enumerate(value))
        return copy.copy(value)  # fp16's loss scaler is an object that changes while we write

    def _copy_tensor(self, path: str, value: torch.Tensor) -> torch.Tensor:
        shared = _identity(value)
        if value.numel() and shared in self._copied:
            return self._copied[shared]
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
            buffer = self._buffers[path] = self._allocate(value)
        buffer.copy_(value, non_blocking=self._pin is not None)
        self._copied[shared] = buffer
        return buffer

    def _allocate(self, value: torch.Tensor) -> torch.Tensor:
        """Memory for a tensor; a region of its own if it was not reserved."""
        size = aligned(value.nbytes)
        if not size:
            return torch.empty(value.shape, dtype=value.dtype)
        if not self._regions or self._regions[-1].left < size:
            self.reserve(size)
        return self._regions[-1].tensor(value)


class _Region:
    """Memory of whole pages, in which tensors are placed one after the other."""

    def __init__(self, size: int, pin: Callable[[int, int], None] | None) -> None:
        self.size, self._used = size, 0
        self._memory = mmap.mmap(-1, max(size, 1))
        pages = torch.frombuffer(self._memory, dtype=torch.uint8)
        pages.zero_()
        if pin is not None:
            pin(pages.data_ptr(), pages.numel())

    @property
    def left(self) -> int:
        """Bytes that are free."""
        return self.size - self._used

    def tensor(self, like: torch.Tensor) -> torch.Tensor:
        """A tensor of that shape and dtype, with a storage of its own: torch.save writes whole storages."""
        place = torch.frombuffer(
            self._memory, dtype=like.dtype, count=like.numel(), offset=self._used
        )
        self._used += aligned(like.nbytes)
        return place.view(like.shape)


def aligned(size: int) -> int:
    """The bytes that a tensor takes in a region."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def tensors(state: Any) -> Iterator[torch.Tensor]:
    """The tensors that `HostCopy` copies: those that share memory once."""
    seen = set()
    for value in _all_tensors(state):
        if value.numel() and (identity := _identity(value)) not in seen:
            seen.add(identity)
            yield value


def write(path: Path, state: Any) -> Output:
    """Write a state as torch.save does, and sync it; returns size and hash. Raises OSError.

    torch's own checksums (CRC-32) are left out: they take four times the processor time of this hash, and
    nothing reads them.
    """
    with path.open("wb", buffering=0) as stream, _without_checksums():
        sink = _Sink(stream.fileno())
        torch.save(state, cast("IO[bytes]", sink))
        if sink.error is not None:
            raise sink.error
        os.fsync(stream.fileno())
    return {"size": sink.size, "xxh3": sink.digest.hexdigest()}


@contextlib.contextmanager
def _without_checksums() -> Iterator[None]:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


class _Sink:
    """The file that torch.save writes to; it hashes the bytes in memory, not those on the disk.

    Hashing and writing release the interpreter's lock. An error of the disk is stored: raised within
    torch's writer, whose destructor writes again, it would end the process.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = 0
        self.digest = xxhash.xxh3_128()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        if self.error is None:
            self.size += size
            try:
                for at in range(0, size, _CHUNK):
                    self._write(rest[at : at + _CHUNK])
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing is buffered."""

    def _write(self, chunk: memoryview) -> None:
        self.digest.update(chunk)
        while chunk:
            chunk = chunk[os.write(self._descriptor, chunk) :]


def _all_tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value.detach()
    elif isinstance(value, dict):
        for item in value.values():
            yield from _all_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _all_tensors(item)


def _identity(value: torch.Tensor) -> tuple[Any, ...]:
    """Equal for tensors that are the same numbers in the same memory."""
    return value.data_ptr(), value.shape, value.stride(), value.dtype
