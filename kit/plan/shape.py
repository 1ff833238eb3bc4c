"""The size of a recipe's model, and the setup of its memory, before there is a tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kit.models import architectures
from kit.plan import memory
from kit.plan.memory import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.config.cluster import Cluster
    from kit.config.recipe import Model, Recipe

ITEM = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes
_BUCKET, _LIVE = 500_000_000, 1_000_000_000  # DeepSpeed's defaults


def vocab_size(recipe: Recipe) -> int:
    """The vocabulary size of the recipe's tokenizer; of several candidates, the largest."""
    return max(spec.vocab_size for spec in recipe.tokenizer.specs())


def rows(recipe: Recipe) -> int:
    """The rows of the embedding as it is trained, with padding."""
    return architectures.padded_rows(vocab_size(recipe), recipe.model.pad_vocab_to)


def parameters(recipe: Recipe) -> int:
    """The number of parameters as they are trained, with padding rows."""
    return architectures.of(recipe.model).parameters(rows(recipe))


def flops_per_token(recipe: Recipe) -> float:
    """Forward and backward FLOP per token."""
    return architectures.of(recipe.model).flops_per_token(parameters(recipe))


def matrices(recipe: Recipe) -> int:
    """The parameters that Muon trains."""
    muon = recipe.training.optimizer == "muon"
    return architectures.of(recipe.model).matrix_parameters() if muon else 0


def checkpoint_bytes(recipe: Recipe) -> int:
    """The size of a checkpoint; the recipe is resolved."""
    item = ITEM[recipe.training.precision]
    return memory.checkpoint_bytes(parameters(recipe), item, matrices(recipe))


def bucket(zero: Mapping[str, Any], parameters: int) -> int:
    """The numbers in a bucket of gradients: as in DeepSpeed's options, but no more than the model has."""
    return min(int(zero.get("reduce_bucket_size", _BUCKET)), parameters)


def of_model(model: Model, rows: int, *, muon: bool) -> Setup:
    """The setup of a model with these rows of its embedding, and all else as by default."""
    architecture = architectures.of(model)
    return Setup(
        parameters=architecture.parameters(rows),
        layers=model.n_layer,
        width=model.n_embd,
        heads=model.n_head,
        length=model.n_positions,
        rows=rows,
        layer=architecture.layer_activations(),
        outer=architecture.outer_activations(),
        matrices=architecture.matrix_parameters() if muon else 0,
    )


def setup(recipe: Recipe, cluster: Cluster) -> Setup:
    """The setup of a rank; the recipe is resolved."""
    model, training = recipe.model, recipe.training
    assert isinstance(training.deepspeed, dict)
    assert training.precision != "auto"
    zero = training.deepspeed.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    offload = zero.get("offload_optimizer") or {}
    gpu = cluster.device == "cuda"
    own = of_model(model, rows(recipe), muon=training.optimizer == "muon")
    return replace(
        own,
        ranks=cluster.training.ranks,
        micro_batch=training.micro_batch_size,
        item=ITEM[training.precision],
        gradient_item=ITEM[training.gradient_dtype],
        crossing_item=ITEM[training.deepspeed.get("communication_data_type") or training.precision],
        bf16=training.precision == "bf16",
        stage=stage,
        # On a CPU it moves nothing: the optimizer is in the same memory.
        offload=gpu and (offload.get("device", "none") != "none" or bool(zero.get("cpu_offload"))),
        bucket=bucket(zero, own.parameters),
        live=int(zero.get("stage3_max_live_parameters", zero.get("max_live_parameters", _LIVE))),
        overlap=bool(zero.get("overlap_comm", stage == 3)),
        fused_attention=model.attention == "sdpa",
        dropout=architectures.of(model).dropout > 0,
        checkpointing=model.activation_checkpointing,
        chunk=training.loss_chunk,
        liger=training.loss_kernel == "liger",
        gpu=gpu,
    )
