"""DeepSpeed's files of a checkpoint, read without running the code that a pickle can hold.

state = read(path, "cpu", import_deepspeed)
refuse_code(folder)            # before a program of DeepSpeed unpickles the files of a folder
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

import torch

from kit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What DeepSpeed 0.19.8 pickles beside tensors and plain containers: enumerations and records of values.
_PLAIN_TYPES = {
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.utils.tensor_fragment.fragment_address",
}


def read(
    path: Path,
    map_location: Any,
    import_deepspeed: Callable[[], object],
    *,
    name: str | None = None,
    mapped: bool = False,
) -> Any:
    """Read a file; `import_deepspeed` is called if it has DeepSpeed's types.

    `name` is that in errors, the path by default. `mapped`: tensors are views of the file's pages.
    Raises CheckpointError if the file would run code.
    """
    needed = _types(path, name)
    if needed:
        import_deepspeed()
    with torch.serialization.safe_globals([pkgutil.resolve_name(one) for one in needed]):
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mapped)


def refuse_code(folder: Path) -> None:
    """Raise CheckpointError if a file of the folder would run code when it is unpickled."""
    for path in sorted(folder.glob("*.pt")):
        _types(path)


def _types(path: Path, shown: str | None = None) -> list[str]:
    """The types in a pickle besides tensors and plain values. Raises CheckpointError for foreign ones."""
    found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    for name in found:
        if name not in _PLAIN_TYPES:
            raise CheckpointError(
                f"{shown or path}: not loaded, as it would call {name}, which DeepSpeed never writes; "
                "restore the checkpoint from a copy that you trust"
            )
    return list(found)
