"""What a step used: time, memory, the wait for data, and the slowest rank.

Ranks exchange gradients in every step, so all of them take as long as the slowest one. Its own work, data
and forward passes, tells which it is.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.tracking.rows import StepUsage
    from kit.training.collectives import Collectives
    from kit.training.device import Device
    from kit.training.stopwatch import Stopwatch


class UsageMeter:
    """Measures the steps of this rank, and compares the ranks."""

    def __init__(self, device: Device, collectives: Collectives, forward: Stopwatch) -> None:
        self._device, self._collectives, self._forward = device, collectives, forward
        self._data = 0.0

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Time a block that reads data."""
        began = time.perf_counter()
        yield
        self._data += time.perf_counter() - began

    def discard(self) -> None:
        """Forget a step that is undone."""
        self._data = 0.0
        self._forward.take()

    def of_step(self, seconds: float) -> StepUsage:
        """The usage of a step that took `seconds`. A collective, called once the step is done."""
        data, self._data = self._data, 0.0
        memory, reserved = self._device.peak_memory(), self._device.peak_reserved()
        ranks = self._collectives.gather([data, data + self._forward.take(), memory, reserved])
        return usage(seconds, ranks)


def usage(seconds: float, ranks: list[list[float]]) -> StepUsage:
    """The usage of a step; `ranks`: seconds of waiting for data and of own work, memory peaks in bytes."""
    waits, work, memory, reserved = zip(*ranks, strict=True)
    slowest = work.index(max(work))
    record: StepUsage = {
        "seconds": seconds,
        "data_seconds": max(waits),
        "slowest_rank": slowest,
        "slowest_behind": work[slowest] - statistics.median(work),
        "memory_bytes": int(max(memory)),
    }
    if any(reserved):
        record["reserved_bytes"] = int(max(reserved))
    return record
