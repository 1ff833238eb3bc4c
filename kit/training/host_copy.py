"""The state of a rank in host memory: copied in the loop, written in the background."""

from __future__ import annotations

import copy
import os
from typing import IO, TYPE_CHECKING, Any, cast

import torch
import xxhash

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.records import Output

_CONTAINERS = (dict, list, tuple)


class HostCopy:
    """Copies a state into buffers that are kept from one save to the next.

    Tensors that share memory (tied weights) share it in the copy. What is neither a tensor nor a
    plain container is copied by itself: DeepSpeed's state holds values there, and objects of values.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._buffers: dict[str, torch.Tensor] = {}
        self._copied: dict[tuple[Any, ...], torch.Tensor] = {}

    def take(self, name: str, state: Any) -> Any:
        """A copy of `state`; it stands until the next one of that name is taken."""
        self._copied = {}
        try:
            return self._copy(name, state)
        finally:
            self._copied = {}

    def _copy(self, place: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(place, value.detach())
        if type(value) in _CONTAINERS or type(value).__name__ == "OrderedDict":
            if isinstance(value, dict):
                pairs = [(key, self._copy(f"{place}/{key}", one)) for key, one in value.items()]
                return type(value)(pairs)
            return type(value)(self._copy(f"{place}/{i}", one) for i, one in enumerate(value))
        return copy.copy(value)  # the loss scaler of fp16 is an object, and goes on to change

    def _copy_tensor(self, place: str, value: torch.Tensor) -> torch.Tensor:
        shared = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and shared in self._copied:
            return self._copied[shared]
        buffer = self._buffers.get(place)
        if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
            pin = self._pinned and value.numel() > 0
            buffer = torch.empty(value.shape, dtype=value.dtype, device="cpu", pin_memory=pin)
            self._buffers[place] = buffer
        buffer.copy_(value, non_blocking=self._pinned)
        self._copied[shared] = buffer
        return buffer


def write(path: Path, state: Any) -> Output:
    """Write a state as torch.save does, durable; returns its size and hash. Raises OSError."""
    with path.open("wb", buffering=0) as stream:
        sink = _Sink(stream.fileno())
        torch.save(state, cast("IO[bytes]", sink))
        if sink.error is not None:
            raise sink.error
        os.fsync(stream.fileno())
    return {"size": sink.size, "xxh3": sink.digest.hexdigest()}


class _Sink:
    """Takes what torch.save writes, and hashes it: the hash is of what was meant, not of the disk.

    It keeps an error of the disk to itself: raised within torch's writer, whose destructor writes
    again, it would end the process.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = 0
        self.digest = xxhash.xxh3_128()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        whole = len(rest)
        if self.error is None:
            self.digest.update(rest)
            self.size += whole
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                self.error = error
        return whole

    def flush(self) -> None:
        """Nothing is held back."""
