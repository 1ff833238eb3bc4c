"""Copy of a rank's state in host memory: taken in the loop, written in the background."""

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
    """Copies a state into buffers that are reused by the next save.

    Tensors that share memory (tied weights) share it in the copy. Anything but tensors and plain
    containers gets a shallow copy: in DeepSpeed's state these are plain values, and objects of them.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._buffers: dict[str, torch.Tensor] = {}
        self._copied: dict[tuple[Any, ...], torch.Tensor] = {}

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
        shared = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and shared in self._copied:
            return self._copied[shared]
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
            pin = self._pinned and value.numel() > 0
            buffer = torch.empty(value.shape, dtype=value.dtype, device="cpu", pin_memory=pin)
            self._buffers[path] = buffer
        buffer.copy_(value, non_blocking=self._pinned)
        self._copied[shared] = buffer
        return buffer


def write(path: Path, state: Any) -> Output:
    """Write a state as torch.save does, and sync it; returns size and hash. Raises OSError."""
    with path.open("wb", buffering=0) as stream:
        sink = _Sink(stream.fileno())
        torch.save(state, cast("IO[bytes]", sink))
        if sink.error is not None:
            raise sink.error
        os.fsync(stream.fileno())
    return {"size": sink.size, "xxh3": sink.digest.hexdigest()}


class _Sink:
    """The file that torch.save writes to; it hashes the bytes in memory, not those on the disk.

    An error of the disk is stored: raised within torch's writer, whose destructor writes again, it
    would end the process.
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
            self.digest.update(rest)
            self.size += size
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing is buffered."""
