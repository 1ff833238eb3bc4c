"""The time of a step estimated kernel by kernel, from the shape of a model.

    kernels.seconds(recipe, cluster)     # the fewest and the most of a step; None if there is no estimate

Nothing of it has been measured. The rates below are assumed for an A100 of 40 GB whose matrices are large
enough to fill it. A micro-batch takes

- matrix products: 6 FLOP per token and parameter;
- fused attention: 7 of the 12 x layers x width x length FLOP per token that MFU counts. It skips what the
  causal mask hides, and computes the scores again in the backward pass (Dao 2023, arXiv 2307.08691);
- kernels bound by memory: the bytes that a layer moves between matrix products (kit/models) and the loss;
- gradients between ranks as far as the backward pass does not hide them, and idling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.models import architectures
from kit.plan import shape

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe

_ACCELERATOR = "a100"
_PRODUCTS = 205e12  # FLOP/s: 66% of the peak
_ATTENTION = 113e12  # FLOP/s: 36% of the peak, at blocks of a thousand tokens
_MEMORY = 1.3e12  # bytes/s: 84% of the 1,555 GB/s of its data sheet
_IDLE = 0.02  # seconds of a micro-batch
_LOGIT = 32  # bytes moved per logit: to fp32, log-softmax, its gradient, back to 16 bits
_SLOWER = 1.1  # the most over the fewest seconds
_TOKENS, _WIDTH = 8192, 1024  # least sizes of a matrix


def seconds(recipe: Recipe, cluster: Cluster) -> tuple[float, float] | None:
    """The fewest and the most seconds of a step; None for devices and settings that it does not cover."""
    moved = architectures.of(recipe.model).moved_bytes()
    if moved is None or not _covers(recipe, cluster):
        return None
    training = recipe.training
    each = _micro_batch(recipe, moved)
    fewest = each * training.global_batch / (training.micro_batch_size * cluster.training.ranks)
    return fewest, _SLOWER * fewest


def _micro_batch(recipe: Recipe, moved: int) -> float:
    model = recipe.model
    tokens = recipe.training.micro_batch_size * model.n_positions
    attention = model.n_layer * model.n_embd * model.n_positions
    products = shape.flops_per_token(recipe) - 12 * attention
    bytes_moved = model.n_layer * moved + shape.rows(recipe) * _LOGIT
    each = products / _PRODUCTS + 7 * attention / _ATTENTION + bytes_moved / _MEMORY
    return tokens * each + _IDLE


def _covers(recipe: Recipe, cluster: Cluster) -> bool:
    model, training = recipe.model, recipe.training
    return (
        (cluster.training.accelerator, cluster.training.nodes) == (_ACCELERATOR, 1)
        and (model.attention, training.precision) == ("sdpa", "bf16")
        and architectures.of(model).dropout == 0
        and not (model.activation_checkpointing or training.compile)
        and training.optimizer == "adamw"
        and training.micro_batch_size * model.n_positions >= _TOKENS
        and model.n_embd >= _WIDTH
        and not shape.setup(recipe, cluster).offload
    )
