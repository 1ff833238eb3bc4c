"""A clock that stands still while the process is stopped: `scontrol suspend`, SIGSTOP, Ctrl-Z, a debugger.

    clock = RunningClock(tick=1.0)
    clock.beat()     # about once per tick, from a thread
    clock.now()      # seconds that the process has run

How long a step or a save takes decides when an attempt leaves and what counts as a hang: neither may
depend on how long Slurm had suspended the job.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LATE = 4  # ticks: a beat may be late on a busy machine; what exceeds them is time that was not run


class RunningClock:
    """Seconds that this process has run, for differences; correct to a few ticks per stop."""

    def __init__(self, tick: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.tick = tick
        self._clock, self._lock = clock, threading.Lock()
        self._ran, self._beaten = 0.0, clock()

    def beat(self) -> None:
        """Show that the process runs; call it once per tick."""
        with self._lock:
            now = self._clock()
            self._ran += self._since(now)
            self._beaten = now

    def now(self) -> float:
        """Seconds, from an arbitrary zero."""
        with self._lock:
            return self._ran + self._since(self._clock())

    def _since(self, now: float) -> float:
        return min(now - self._beaten, _LATE * self.tick)
