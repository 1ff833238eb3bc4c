"""A recipe on several kinds of nodes, side by side: the memory of a rank by part, micro-batch, rate, days.

    comparison.facts(name, [On("8xa100", recipe, cluster), ...], steps=None, mfu=None)

All figures are computed as those of `report.facts`; `kit/relay/comparing.py` makes the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kit.config.devices import ACCELERATORS, BF16_CAPABILITY
from kit.plan import memory, rate, shape
from kit.plan.length import DAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.plan.memory import Setup

# Flash attention 2 is built for Ampere and newer; torch's memory-efficient kernel also runs on Volta and
# Turing (torch 2.13, ATen/native/transformers/cuda/sdp_utils.cpp).
_FLASH_CAPABILITY = 8.0


@dataclass(frozen=True)
class On:
    """The recipe as it would be trained on one kind of node, with the precision of its GPUs."""

    label: str
    recipe: Recipe
    cluster: Cluster  # with an accelerator


def facts(
    name: str, pairs: Sequence[On], steps: int | None = None, mfu: float | None = None
) -> dict[str, Any]:
    """The comparison as plain values; bytes and seconds, null where a figure is unknown."""
    return {
        "recipe": name,
        "steps": steps,
        "mfu": mfu or rate.MFU,
        "mfu_given": mfu is not None,
        "nodes": [_memory(on) | _time(on, steps, mfu or rate.MFU) for on in pairs],
    }


def attention_kernel(recipe: Recipe, capability: float) -> str:
    """The kernel of attention on a GPU: eager, flash, or memory-efficient."""
    if recipe.model.attention == "eager":
        return "eager"
    flash = capability >= _FLASH_CAPABILITY and recipe.training.precision != "fp32"
    return "flash" if flash else "memory-efficient"


def _memory(on: On) -> dict[str, Any]:
    training = on.cluster.training
    assert training.accelerator is not None
    gpu, setup = ACCELERATORS[training.accelerator], shape.setup(on.recipe, on.cluster)
    blocks = on.recipe.training.global_batch // training.ranks
    checkpointed = replace(setup, checkpointing=True)
    return {
        "label": on.label,
        "accelerator": training.accelerator,
        "gpus": training.ranks,
        "precision": on.recipe.training.precision,
        "runs": on.recipe.training.precision != "bf16" or gpu.capability >= BF16_CAPABILITY,
        "attention": attention_kernel(on.recipe, gpu.capability),
        "memory": gpu.memory,
        "parts": {part.name: part.bytes for part in memory.parts(setup)},
        "as_written": _at(setup, gpu.memory),
        "largest": _largest(setup, gpu.memory, blocks),
        "checkpointing": _largest(checkpointed, gpu.memory, blocks),
        "host_bytes": memory.host_bytes(setup) * training.ranks_per_node,
    }


def _time(on: On, steps: int | None, mfu: float) -> dict[str, Any]:
    seconds = rate.seconds_a_step(on.recipe, on.cluster, mfu)
    assert seconds is not None  # only of an unknown accelerator
    return {
        "seconds_a_step": seconds,
        "tokens_per_second": rate.tokens_a_step(on.recipe) / seconds,
        "days": None if steps is None else steps * seconds / DAY,
    }


def _at(setup: Setup, limit: float) -> dict[str, Any]:
    """What a micro-batch takes, and the share of the GPU's memory that it leaves; below 0 if none."""
    total = memory.total(setup)
    return {"micro_batch": setup.micro_batch, "total": total, "free": 1.0 - total / limit}


def _largest(setup: Setup, limit: float, blocks: int) -> dict[str, Any] | None:
    """The same of the largest micro-batch that fits and divides a rank's blocks; None if none fits."""
    size = memory.largest(setup, limit, blocks)
    return None if size is None else _at(replace(setup, micro_batch=size), limit)
