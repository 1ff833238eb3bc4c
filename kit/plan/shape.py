"""The shape of a recipe's model, and the setup of its memory, before there is a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.plan.memory import Setup
from kit.plan.size import Shape

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe

ITEM = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes
_BUCKET = 500_000_000  # DeepSpeed's default


def vocab_size(recipe: Recipe) -> int:
    """The vocabulary size of the recipe's tokenizer; of several candidates, the largest."""
    return max(spec.vocab_size for spec in recipe.tokenizer.specs())


def padded_vocab_size(vocab_size: int, multiple: int | None) -> int:
    """The rows of the embedding, rounded up to a multiple (NVIDIA recommends 64 for its matrix units)."""
    return vocab_size if multiple is None else -(-vocab_size // multiple) * multiple


def of(recipe: Recipe) -> Shape:
    """The shape of the model as it is trained, with padding rows."""
    model = recipe.model
    rows = padded_vocab_size(vocab_size(recipe), model.pad_vocab_to)
    return Shape(model.n_layer, model.n_embd, rows, model.n_positions)


def setup(recipe: Recipe, cluster: Cluster) -> Setup:
    """The setup of a rank; the recipe is resolved."""
    model, training, shape = recipe.model, recipe.training, of(recipe)
    assert isinstance(training.deepspeed, dict)
    assert training.precision != "auto"
    zero = training.deepspeed.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    offload = zero.get("offload_optimizer") or {}
    gpu = cluster.device == "cuda"
    return Setup(
        parameters=shape.parameters,
        layers=model.n_layer,
        width=model.n_embd,
        heads=model.n_head,
        length=model.n_positions,
        rows=shape.vocab_size,
        ranks=cluster.training.ranks,
        micro_batch=training.micro_batch,
        item=ITEM[training.precision],
        gradient_item=ITEM[training.gradient_dtype],
        crossing_item=ITEM[training.deepspeed.get("communication_data_type") or training.precision],
        bf16=training.precision == "bf16",
        stage=stage,
        # On a CPU it moves nothing: the optimizer is in the same memory.
        offload=gpu and (offload.get("device", "none") != "none" or bool(zero.get("cpu_offload"))),
        bucket=int(zero.get("reduce_bucket_size", _BUCKET)),
        overlap=bool(zero.get("overlap_comm", stage == 3)),
        fused_attention=model.attention == "sdpa",
        fused_activation=model.activation != "gelu_new",
        dropout=model.dropout > 0,
        checkpointing=model.activation_checkpointing,
        chunk=training.loss_chunk,
        gpu=gpu,
    )
