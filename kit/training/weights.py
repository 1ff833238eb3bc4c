"""The model's weights in the files of a checkpoint.

A run in bf16 or fp16 has each weight twice: in the precision of training, and as the fp32 master that the
optimizer updates. Under ZeRO 1 and 2 every rank has a part of the masters in its optimizer file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kit.training import engine, state_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

WHOLE_MODEL = "mp_rank_00_model_states.pt"  # not under ZeRO-3, which has parts only
_RANK_FILES = "*zero_pp_rank_*_mp_rank_00_optim_states.pt"
_PARTS, _MAPPINGS = "single_partition_of_fp32_groups", "param_slice_mappings"  # DeepSpeed 0.19.8


def read(state: Path, dtype: torch.dtype, ensure_own: Callable[[], None]) -> dict[str, Tensor]:
    """The weights in a checkpoint's `state` by name, on the CPU, to be stored as `dtype`.

    They are the masters, unless the model's own have that dtype already, or there are none (fp32), or they
    are stored without names (bf16 without ZeRO). Of tied weights, masters have one. `ensure_own` is called
    before DeepSpeed unpickles a file itself. Raises CheckpointError if a file would run code.
    """
    if not (state / WHOLE_MODEL).is_file():
        ensure_own()
        return engine.gathered(state)
    model = _read(state / WHOLE_MODEL)["module"]
    if precision_of(model) in (dtype, torch.float32):
        return dict(model)
    files = sorted(state.glob(_RANK_FILES), key=_rank)
    return _masters(files, model) if files else dict(model)


def precision_of(weights: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype of the weights."""
    return next(iter(weights.values())).dtype


def _masters(files: list[Path], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the ranks' parts of each weight; `model` has the shapes."""
    parts: dict[str, list[Tensor]] = {}
    for path in files:
        optimizer = _read(path)["optimizer_state_dict"]
        for flat, mapping in zip(optimizer[_PARTS], optimizer[_MAPPINGS], strict=True):
            for name, place in mapping.items():
                part = flat[place.start : place.start + place.numel]
                parts.setdefault(name, []).append(part.clone())  # the rest of the file is let go
    return {name: torch.cat(pieces).view(model[name].shape) for name, pieces in parts.items()}


def _read(path: Path) -> Any:
    return state_files.read(path, "cpu", lambda: engine.import_deepspeed("cpu"))


def _rank(path: Path) -> int:
    words: list[Any] = path.name.split("_")
    return int(words[words.index("rank") + 1])
