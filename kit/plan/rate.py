"""The time of a step before there is a measurement, and the number of steps.

The time is that of the model's operations at an assumed MFU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.config import devices
from kit.plan import shape

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe

# Estimated kernel by kernel for GPT-2 XL in bf16 on A100s, with fused attention and activation. Seconds of
# a micro-batch of eight blocks: matrix products at 205 TFLOP/s 0.38, attention 0.04, kernels bound by
# memory 0.08, gradients between ranks and idling 0.02.
ESTIMATED_MFU = (0.47, 0.52)
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


def estimated_seconds(recipe: Recipe, cluster: Cluster) -> tuple[float, float] | None:
    """The fewest and the most seconds of a step at the estimated MFU; None for other models and devices."""
    model, training = recipe.model, recipe.training
    as_estimated = (
        cluster.training.accelerator == "a100"
        and cluster.training.nodes == 1
        and (model.n_layer, model.n_embd, model.n_positions) == (48, 1600, 1024)
        and (model.attention, model.activation) == ("sdpa", "gelu_pytorch_tanh")
        and (model.dropout, model.activation_checkpointing) == (0.0, False)
        and (training.precision, training.micro_batch) == ("bf16", 8)
        and not shape.setup(recipe, cluster).offload
    )
    if not as_estimated:
        return None
    slow, fast = (seconds_a_step(recipe, cluster, mfu) for mfu in ESTIMATED_MFU)
    assert slow is not None
    assert fast is not None
    return fast, slow


def tokens_a_step(recipe: Recipe) -> int:
    """Tokens of a step, over all ranks."""
    return recipe.training.global_batch * recipe.model.n_positions


def steps(recipe: Recipe, training_tokens: int | None) -> int | None:
    """Steps of the whole run; None if the recipe gives epochs of tokens that do not exist yet."""
    training = recipe.training
    if training.steps is not None or training_tokens is None:
        return training.steps
    blocks = max(0, (training_tokens - 1) // recipe.model.n_positions)
    return training.steps_over(blocks)
