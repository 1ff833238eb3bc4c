"""The time of a rank's own work in a step: forward passes, in which it waits for no other rank.

with stopwatch:
    loss = model(blocks)
seconds = stopwatch.take()      # once the device has finished that work
"""

from __future__ import annotations

import time
from typing import Any

import torch


class Stopwatch:
    """Adds up the time of its blocks, by the host's clock."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._seconds += time.perf_counter() - self._began

    def take(self) -> float:
        """Seconds since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class GpuStopwatch(Stopwatch):
    """Adds up the time of its blocks on the GPU, without waiting for it: by events (torch.cuda.Event)."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._events.append((_recorded(), None))

    def __exit__(self, *exception: object) -> None:
        self._events[-1] = (self._events[-1][0], _recorded())

    def take(self) -> float:
        """Seconds since the last call. The work must be done: an update's gradient norm waits for it."""
        pairs, self._events = self._events, []
        return float(sum(begin.elapsed_time(end) for begin, end in pairs if end is not None)) / 1000


def _recorded() -> Any:
    event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
