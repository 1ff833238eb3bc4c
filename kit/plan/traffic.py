"""Gradients that cross the ranks in a step: how many bytes, and how often.

ZeRO 0 and 1 add up a rank's micro-batches first and reduce once a step; ZeRO 2 and 3 keep a part of the
sum on each rank, so they reduce each micro-batch (DeepSpeed 0.19.8, runtime/engine.py:3073). An all-reduce
over n ranks sends 2 (n - 1) / n of these bytes from each of them, a reduce-scatter half of that (Patarasuk
and Yuan 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.plan.memory import Setup


@dataclass(frozen=True)
class Traffic:
    """All gradients of a rank, reduced some times a step."""

    each: float  # bytes
    times: int
    function: str

    @property
    def bytes(self) -> float:
        """Bytes of a step."""
        return self.each * self.times


def gradients(setup: Setup, micro_batches: int) -> Traffic:
    """The traffic of a step of that many micro-batches per rank."""
    return Traffic(
        each=setup.parameters * setup.crossing_item,
        times=micro_batches if setup.stage >= 2 else 1,
        function="reduce-scatter" if setup.stage == 3 else "all-reduce",
    )
