"""DeepSpeed's files of a checkpoint, taken from it and given to it: neither goes through the disk.

`Exchange` is in the place of DeepSpeed's CheckpointEngine (version 0.19.8). Saving leaves a copy of each
file's state in host memory, which the saver writes in the background. Loading gives the states of the files
that were verified before (kit/training/loading.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.training import state_files
from kit.training.host_copy import HostCopy, aligned, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import torch

    from kit.training.adamw import GuardedAdamW
    from kit.training.device import Device
    from kit.training.file_in_memory import FileInMemory


class Exchange:
    """The files that DeepSpeed saves, as copies of their states, and those that it loads."""

    def __init__(self, device: Device, import_deepspeed: Callable[[], object]) -> None:
        self._device, self._import = device, import_deepspeed
        self._copy = HostCopy(device.pin if device.is_gpu else None)
        self._states: dict[str, Any] = {}
        self._sizes: list[int] | None = None  # while a state is measured
        self._files: Mapping[str, FileInMemory] | None = None

    def copies(self, save: Callable[[], object]) -> dict[str, Any]:
        """The copies of what `save` lets DeepSpeed save, by file name; valid until the next call."""
        self._states = {}
        save()
        self._device.synchronize()
        states, self._states = self._states, {}
        return states

    def reserve(self, save: Callable[[], object], more: Iterable[torch.Tensor]) -> None:
        """Allocate the memory for what `save` lets DeepSpeed save, and for tensors still to come."""
        self._sizes = [aligned(tensor.nbytes) for tensor in more]
        save()
        sizes, self._sizes = self._sizes, None
        self._copy.reserve(sum(sizes))

    def give(self, files: Mapping[str, FileInMemory] | None, load: Callable[[], object]) -> None:
        """Give `load` these files in place of those on the disk, and close them; None: the disk's."""
        self._files = files
        try:
            load()
        finally:
            self._files = None
            for file in (files or {}).values():
                file.close()

    def save(self, state_dict: Any, path: str) -> None:
        """Called by DeepSpeed."""
        name = Path(path).name
        if self._sizes is not None:
            self._sizes += [aligned(tensor.nbytes) for tensor in tensors(state_dict)]
        else:
            self._states[name] = self._copy.take(name, state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        """Called by DeepSpeed."""
        if self._files is None:
            return state_files.read(Path(path), map_location, self._import)
        file = self._files[Path(path).name]
        # A GPU gets copies of views. A CPU's optimizer would keep it, all of the file with it.
        mapped = self._device.is_gpu
        return state_files.read(file, map_location, self._import, name=path, mapped=mapped)

    def create(self, info: object) -> None:
        """Called by DeepSpeed."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Called by DeepSpeed: there are no folders."""

    def commit(self, info: object) -> None:
        """Called by DeepSpeed: the saver commits."""

    def is_decoupled(self) -> bool:
        """Called by DeepSpeed, which would wait for its own writer."""
        return False


def to_come(optimizer: GuardedAdamW, zero: Any) -> Iterator[torch.Tensor]:
    """Tensors as large as those that an optimizer makes at its first step: moments, and a counter.

    `zero` is DeepSpeed's optimizer around it. That of ZeRO-3 has the parameters, all of them AdamW's, and
    lends them for each update.
    """
    partitions: list[torch.Tensor] | None = getattr(zero, "fp32_partitioned_groups_flat", None)
    groups = [{"params": partitions}] if partitions else optimizer.param_groups
    for group in groups:
        for parameter in group["params"]:
            if parameter not in optimizer.state:
                yield from [parameter.detach()] * optimizer.moments(group)
                yield parameter.detach().flatten()[:1]
