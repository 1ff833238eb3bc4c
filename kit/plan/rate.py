"""The time of a step before there is a measurement: the model's operations at an assumed MFU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.config import devices
from kit.plan import shape
from kit.plan.flops import flops_per_token

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe

# Assumed. Published runs reached 0.21 (GPT-3) to 0.46 (PaLM): Chowdhery et al. 2022, table 3.
MFU = 0.35


def seconds_a_step(recipe: Recipe, cluster: Cluster, mfu: float = MFU) -> float | None:
    """Seconds of a step at that MFU; None if the cluster names no accelerator."""
    name = cluster.training.accelerator
    if name is None:
        return None
    tokens = tokens_a_step(recipe)
    peak = devices.ACCELERATORS[name].peak_flops * cluster.training.ranks
    work = flops_per_token(shape.of(recipe).parameters, recipe.model)
    return tokens * work / (peak * mfu)


def tokens_a_step(recipe: Recipe) -> int:
    """Tokens of a step, over all ranks."""
    return recipe.training.global_batch * recipe.model.n_positions
