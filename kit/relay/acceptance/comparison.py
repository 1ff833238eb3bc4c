"""Two runs of one recipe, compared at their ends: weights bit by bit, and losses step by step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kit.tracking import ledger
from kit.training import checkpoint, weights

if TYPE_CHECKING:
    from kit.store.paths import Run
    from kit.tracking.rows import StepRow


def compare(one: Run, other: Run) -> dict[str, Any]:
    """Whether both ended alike; the largest differences, and the first step with another loss."""
    rows = zip(_steps(one), _steps(other), strict=True)
    pairs = [(a["step"], _loss(a), _loss(b)) for a, b in rows]
    first = next((step for step, a, b in pairs if a != b), None)
    by_weights = _difference(one, other)
    return {
        "equal": by_weights == 0 and first is None,
        "weights": by_weights,
        "losses": max(abs(a - b) for _, a, b in pairs),
        "first": first,
    }


def _steps(run: Run) -> list[StepRow]:
    return [row for row in ledger.canonical(run) if row["kind"] == "step"]


def _loss(row: StepRow) -> float:
    return math.inf if row["loss"] is None else row["loss"]


def _difference(one: Run, other: Run) -> float:
    """The largest difference between the weights of the last checkpoints, in fp32."""
    import torch

    ends = (checkpoint.final(run, "jobs.train") for run in (one, other))
    first, second = (
        weights.read(end.state, torch.float32, end.ensure_intact_and_own) for end in ends
    )
    return max(
        float((value.float() - second[name].float()).abs().max()) for name, value in first.items()
    )
