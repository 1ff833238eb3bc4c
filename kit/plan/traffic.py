"""Gradients and weights that cross the ranks in a step: how many bytes, and how often.

ZeRO 0 and 1 add up a rank's micro-batches first and reduce once a step; ZeRO 2 and 3 keep a part of the
sum on each rank, so they reduce each micro-batch (DeepSpeed 0.19.8, runtime/engine.py:3073). An all-reduce
over n ranks sends 2 (n - 1) / n of these bytes from each of them, a reduce-scatter half of that (Patarasuk
and Yuan 2009).

Updated weights, of which each rank has a part, are gathered in the format of the forward pass: under ZeRO 1
and 2 once a step, behind the update; under ZeRO-3 at each micro-batch, and for its backward pass
again those that could not stay (Rajbhandari et al. 2020, arXiv 1910.02054, section 7). An all-gather sends
as much as a reduce-scatter.

What the device waits for: with `overlap_comm`, ZeRO 2 and 3 reduce a bucket while the backward pass goes on
to fill the next one, and only the last of a micro-batch has nothing beside it, as long as the links are
quick enough. ZeRO 0 and 1 reduce behind the last backward pass, where nothing is left to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.plan.memory import Setup


@dataclass(frozen=True)
class Traffic:
    """All gradients or weights, reduced or gathered some times a step."""

    each: float  # bytes
    times: int
    function: str

    exposed: float = 0.0  # bytes each time that no computation hides

    @property
    def bytes(self) -> float:
        """Bytes of a step."""
        return self.each * self.times

    def seconds(self, ranks: int, bus: float) -> tuple[float, float]:
        """Seconds of a step, and those that the device waits, for a bus bandwidth in bytes per second.

        As nccl-tests define it: an all-reduce is limited by 2 (n - 1) / n of its bytes, a reduce-scatter or
        an all-gather by half of that.
        """
        sent = (ranks - 1) / ranks * (2 if self.function == "all-reduce" else 1) * self.times / bus
        return self.each * sent, self.exposed * sent


def gradients(setup: Setup, micro_batches: int) -> Traffic:
    """The traffic of a step of that many micro-batches per rank."""
    hidden = setup.stage >= 2 and setup.overlap
    numbers = setup.bucket if hidden else setup.parameters
    return Traffic(
        each=setup.parameters * setup.crossing_item,
        times=micro_batches if setup.stage >= 2 else 1,
        function="reduce-scatter" if setup.stage == 3 else "all-reduce",
        exposed=numbers * setup.crossing_item,
    )


def weights(setup: Setup, micro_batches: int) -> Traffic | None:
    """The traffic of the weights; None without ZeRO, where each rank updates all of them."""
    if setup.stage == 0:
        return None
    each = setup.parameters * setup.item
    if setup.stage < 3:
        return Traffic(each, 1, "all-gather", exposed=each)
    passes = 1 if setup.parameters <= setup.live else 2
    return Traffic(each, passes * micro_batches, "all-gather")
