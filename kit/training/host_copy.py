"""Copy of a rank's state in host memory: taken in the loop, written in the background (state_files.py)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from kit.training import direct_io

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CONTAINERS = (dict, list, tuple)


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
        self._memory = direct_io.pages(size)
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
    """The bytes that a tensor takes in a region: whole pages, so that the disk reads it from there."""
    return direct_io.whole(size)


def tensors(state: Any) -> Iterator[torch.Tensor]:
    """The tensors that `HostCopy` copies: those that share memory once."""
    seen = set()
    for value in _all_tensors(state):
        if value.numel() and (identity := _identity(value)) not in seen:
            seen.add(identity)
            yield value


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
