"""The time of a step before there is a measurement, and the number of steps.

The time is that of the model's operations at an assumed MFU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kit.config import devices
from kit.plan import shape

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
    work = shape.flops_per_token(recipe)
    return tokens * work / (peak * mfu)


def mfu(recipe: Recipe, cluster: Cluster, seconds: float) -> float:
    """The MFU at which a step takes that long; the cluster names an accelerator."""
    at_peak = seconds_a_step(recipe, cluster, 1.0)
    assert at_peak is not None
    return at_peak / seconds


def tokens_a_step(recipe: Recipe) -> int:
    """Tokens of a step, over all ranks."""
    return recipe.training.global_batch * recipe.model.n_positions


def steps_for(recipe: Recipe, tokens: float) -> int:
    """The number of steps that train on this many tokens, repeats counted."""
    return math.ceil(tokens / tokens_a_step(recipe))


def steps(recipe: Recipe, training_tokens: int | None) -> int | None:
    """Steps of the whole run; None if the recipe gives epochs of tokens that do not exist yet."""
    training = recipe.training
    if training.steps is not None or training_tokens is None:
        return training.steps
    blocks = max(0, (training_tokens - 1) // recipe.model.n_positions)
    return training.steps_over(blocks)
