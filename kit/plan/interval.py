"""The time between two checkpoints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_A_DAY = 86_400.0


def young(cost: float, between: float) -> float:
    """Seconds between two checkpoints, from the cost of one and the time between interruptions."""
    return math.sqrt(2.0 * cost * between)


def checkpoint_interval(
    blocked: float, writing: float, trained: float, interruptions: int
) -> float:
    """Seconds between two checkpoints: sqrt(2 x cost x time between interruptions), Young 1974, Daly 2006.

    The cost is `blocked`, the seconds for which a save blocks the loop. The time between interruptions is
    measured in the run, `interruptions` in `trained` seconds, with a prior of one per day. At most a tenth
    of the time is spent on writing: `writing` is the seconds from the start of a save to its commit.
    """
    one = checkpoint_intervals(blocked, writing, np.array([trained]), np.array([interruptions]))
    return float(one[0])


def checkpoint_intervals(
    blocked: float, writing: float, trained: Floats, interruptions: Floats
) -> Floats:
    """The same for many runs at once."""
    between = (_A_DAY + trained) / (1 + interruptions)
    return np.maximum(np.sqrt(2.0 * blocked * between), 10.0 * writing)
