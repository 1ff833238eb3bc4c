"""Arithmetic of a long run: floating-point work, the use of a device, how often to save."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.config.recipe import Model


_A_DAY = 86_400.0


def flops_per_token(parameters: int, model: Model) -> float:
    """Forward and backward FLOP of one token: 6 N + 12 layers x width x length (PaLM, appendix B).

    Recomputation is not counted: MFU is of the work the model needs.
    """
    return 6.0 * parameters + 12.0 * model.n_layer * model.n_embd * model.n_positions


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
