"""How often to save."""

from __future__ import annotations

import math

_A_DAY = 86_400.0


def checkpoint_interval(
    blocked: float, writing: float, trained: float, interruptions: int
) -> float:
    """Seconds between two checkpoints: sqrt(2 x cost x time between interruptions), Young 1974, Daly 2006.

    The cost is the time a save blocks the loop; the time between interruptions is the run's own,
    `trained` seconds with `interruptions`, on a prior of one in a day. A save is in flight at most
    a tenth of the time: `writing` is how long one takes from its begin to its commit.
    """
    between = (_A_DAY + trained) / (1 + interruptions)
    return max(math.sqrt(2.0 * blocked * between), 10.0 * writing)
