"""The trend of the loss: a few hundred points for a run of any length, for a plot or for JSON.

trend(steps.step, steps.loss, validations)    # of the whole run
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kit.tracking.rows import ValidationRow

POINTS = 240  # two for each of 120 columns of a terminal


def trend(
    steps: NDArray[np.int64],
    losses: NDArray[np.float64],
    validations: Sequence[ValidationRow],
    points: int = POINTS,
) -> dict[str, list[Any]]:
    """The median loss over equal ranges of steps, each at its last step, and the validations among them.

    Losses in nats per token, None for a range without a finite one. Of more validations than `points`, the
    last of each range.
    """
    if not len(steps):
        return {"steps": [], "losses": [], "validations": []}
    first, last = int(steps[0]), int(steps[-1])
    ends, medians = _medians(_ranges(steps, first, last, points), steps, losses)
    held_out = {
        int(_ranges(np.array([row["step"]]), first, last, points)[0]): row
        for row in validations
        if first <= row["step"] <= last
    }
    return {
        "steps": ends,
        "losses": medians,
        "validations": [[row["step"], row["validation_loss"]] for row in held_out.values()],
    }


def _ranges(steps: Any, first: int, last: int, points: int) -> Any:
    """The range that each step lies in, from 0; each step has its own if there are few."""
    length = max(1, math.ceil((last - first + 1) / points))
    return (steps - first) // length


def _medians(ranges: Any, steps: Any, losses: Any) -> tuple[list[int], list[float | None]]:
    """The last step of each range that has one, and the median of its finite losses."""
    order = np.lexsort((losses, ranges))  # NaN comes last in its range
    ranges, steps, losses = ranges[order], steps[order], losses[order]
    begins = np.flatnonzero(np.diff(ranges, prepend=-1))
    finite = np.add.reduceat(np.isfinite(losses), begins)
    middle = begins + np.maximum(finite - 1, 0) // 2
    found = [float(losses[at]) if some else None for at, some in zip(middle, finite, strict=True)]
    return [int(step) for step in np.maximum.reduceat(steps, begins)], found
