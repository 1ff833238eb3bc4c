"""Keys of a recipe that contradict each other: refused as it is loaded, and once its precision is known.

    contradictions.refuse(recipe, origin, "configs/demo.yaml")
    lines = [*contradictions.lines(recipe)]      # of a resolved recipe, without places

`training.deepspeed` is the text of its file. While precision is `auto`, contradictions to it are left open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kit.config.section import override_of
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.config.recipe import Recipe
    from kit.config.training import Training


class Contradiction(NamedTuple):
    """A line about it, and the keys of which one has to change."""

    text: str
    keys: tuple[str, ...]


def refuse(recipe: Recipe, origin: Mapping[str, str], place: str | None) -> None:
    """Raise ConfigError with a line for each contradiction.

    It names the override to blame, from `origin` by its key, else `place`, the file. Without a place (a run
    directory, which was accepted as it is) only those of an override count.
    """
    found = []
    for text, keys in _of(recipe):
        overrides = (override_of(key.split("."), origin) for key in keys)
        if where := next(filter(None, overrides), place):
            found.append(f"{where}: {text}")
    if found:
        raise ConfigError(*found)


def lines(recipe: Recipe) -> Iterator[str]:
    """A line for each contradiction."""
    return (text for text, _ in _of(recipe))


def _of(recipe: Recipe) -> Iterator[Contradiction]:
    training = recipe.training
    assert isinstance(training.deepspeed, dict)
    zero = training.deepspeed.get("zero_optimization", {})
    yield from _of_precision(training, zero.get("stage", 0))
    if zero.get("stage", 0) == 3 and training.health.on_bad_step == "rollback":
        yield Contradiction(
            "training.health.on_bad_step=rollback: DeepSpeed cannot load a checkpoint in mid-run under "
            "ZeRO-3; use skip or stop, or ZeRO stage 2",
            ("training.health.on_bad_step", "training.deepspeed"),
        )
    if training.optimizer == "muon":
        for text in _of_muon(zero):
            keys = ("training.optimizer", "training.deepspeed")
            yield Contradiction(f"training.optimizer=muon: {text}", keys)


def _of_precision(training: Training, stage: int) -> Iterator[Contradiction]:
    precision, gradients = training.precision, training.gradient_dtype
    keys = ("training.precision", "training.gradient_dtype")
    with_zero = ("training.precision", "training.deepspeed")
    if precision != "auto" and gradients not in ("fp32", precision):
        allowed = " or ".join(dict.fromkeys(("fp32", precision)))
        yield Contradiction(
            f"training.gradient_dtype={gradients}: gradients of training.precision={precision} can be "
            f"accumulated in {allowed} only",
            keys,
        )
    if stage == 0 and precision == "fp16":
        yield Contradiction(
            "training.precision=fp16: DeepSpeed scales the loss from ZeRO stage 1 on; choose another "
            "training.deepspeed file, such as zero2",
            with_zero,
        )
    if stage == 0 and precision == "bf16" and gradients == "fp32":
        yield Contradiction(
            "training.gradient_dtype=fp32: DeepSpeed accumulates bf16 gradients in fp32 from ZeRO stage 1 "
            "on; use stage 1 or higher, or training.gradient_dtype=bf16",
            (*keys, "training.deepspeed"),
        )
    if precision == "fp16" and training.loss_kernel == "liger":
        # Gradients of logits are rounded before the loss scale reaches them.
        yield Contradiction(
            "training.loss_kernel=liger: in fp16 it rounds small gradients to zero; leave it out, or set "
            "training.precision=bf16 on a GPU that has it",
            ("training.loss_kernel", "training.precision"),
        )


def _of_muon(zero: Mapping[str, Any]) -> Iterator[str]:
    """Why, with these options of ZeRO, a rank could not orthogonalise its matrices."""
    remedy = "use the DeepSpeed file zero1 or zero2, or training.optimizer=adamw"
    offload = zero.get("offload_optimizer") or {}
    if zero.get("stage", 0) == 3:
        yield f"ZeRO-3 cuts every matrix into a piece for each rank; {remedy}"
    if offload.get("device", "none") != "none" or zero.get("cpu_offload"):
        yield (
            "an offloaded optimizer would orthogonalise on the host, a hundred times as slowly as on a "
            f"GPU; {remedy}"
        )
    for key in ("round_robin_gradients", "parameter_alignment"):
        if zero.get(key):
            yield f"{key} of training.deepspeed moves weights out of their order; leave it out"
