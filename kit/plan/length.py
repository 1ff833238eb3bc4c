"""The part of a plan about time: tokens, steps, seconds of a step, days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.plan import kernels, rate, shape
from kit.plan.figure import figure
from kit.plan.known import BUDGET

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.plan.known import Known

DAY = 86_400.0


def facts(recipe: Recipe, cluster: Cluster, known: Known, mfu: float | None) -> dict[str, Any]:
    """Tokens, steps, the time of a step, and the days that they take."""
    steps = _steps(recipe, known)
    seconds = _seconds(recipe, cluster, known, mfu)
    tokens = rate.tokens_a_step(recipe)
    per_second = tokens / seconds["value"] if seconds["value"] else None
    days = (
        steps["value"] * seconds["value"] / DAY
        if steps["value"] is not None and seconds["value"]
        else None
    )
    work = shape.flops_per_token(recipe)
    lacking = "are the steps" if steps["value"] is None else "is the time of a step"
    return {
        "tokens_a_step": figure(tokens, "training.global_batch x model.n_positions"),
        "flops_per_token": figure(work, "6 N + 12 x layers x width x length (PaLM, appendix B)"),
        "steps": steps,
        "tokens": figure(
            steps["value"] and steps["value"] * tokens, "steps x tokens a step", so="are the steps"
        ),
        "seconds_a_step": seconds,
        "computed_seconds": _computed(recipe, cluster, mfu)
        if seconds["source"] == "rehearsed"
        else figure(None, "is the time of a step already"),
        "estimated_seconds": _estimated(recipe, cluster, steps["value"]),
        "tokens_per_second": figure(
            per_second, "tokens a step / seconds a step", so="is the time of a step"
        ),
        "days": figure(
            days, "steps x seconds a step; no starts, saves, validations, queue", so=lacking
        ),
    }


def _steps(recipe: Recipe, known: Known) -> dict[str, Any]:
    training, steps = recipe.training, rate.steps(recipe, known.training_tokens)
    if (budget := known.budget) is not None and (budget.given or steps is None):
        how = "given" if budget.given else "assumed"
        return figure(
            rate.steps_for(recipe, budget.tokens), f"{budget.tokens / 1e9:g} G tokens, {how}"
        )
    if training.steps is not None:
        return figure(steps, "training.steps")
    if known.training_tokens is None:
        why = "unknown: training.epochs, of tokens that do not exist yet"
        return figure(None, why)
    return figure(
        steps,
        f"training.epochs={training.epochs:g} x {known.training_tokens:,} tokens of the workspace",
    )


def _seconds(recipe: Recipe, cluster: Cluster, known: Known, mfu: float | None) -> dict[str, Any]:
    if known.rehearsed is not None and mfu is None:
        return figure(known.rehearsed["seconds_a_step"], "rehearsed")
    return _computed(recipe, cluster, mfu)


def _computed(recipe: Recipe, cluster: Cluster, mfu: float | None) -> dict[str, Any]:
    seconds = rate.seconds_a_step(recipe, cluster, mfu or rate.MFU)
    if seconds is None:
        return figure(None, "unknown: rehearse it, or name cluster.training.accelerator")
    how = f"an MFU of {mfu or rate.MFU:.1%}, {'given' if mfu else 'assumed'}"
    return figure(seconds, f"computed: {how}, of {cluster.training.accelerator}'s peak")


def _estimated(recipe: Recipe, cluster: Cluster, steps: int | None) -> dict[str, Any]:
    """The seconds of a step from those of its kernels, as a range."""
    found = kernels.seconds(recipe, cluster)
    if found is None:
        return figure(None, "no estimate for this model, micro-batch and device")
    high, low = (rate.mfu(recipe, cluster, seconds) for seconds in found)
    how_many, what = (
        (rate.steps_for(recipe, BUDGET), f"{BUDGET / 1e9:g} G tokens")
        if steps is None
        else (steps, "all steps")
    )
    days = " to ".join(f"{how_many * seconds / DAY:.1f}" for seconds in found)
    source = f"estimated kernel by kernel: an MFU of {low:.0%} to {high:.0%}; {what} in {days} days"
    return figure(list(found), source)
