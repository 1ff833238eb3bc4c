"""Health of a run: bad steps, and steps that hang."""

from __future__ import annotations

import faulthandler
import math
import os
import statistics
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from kit.output import log, quantities
from kit.store.files import write_json
from kit.training.last_resort import LastResort
from kit.training.running_clock import RunningClock
from kit.training.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kit.config.recipe import Health
    from kit.training.progress import Progress

_MEDIAN_FROM = 10  # good steps
_HANG_FACTOR = 10  # times the median
_RECORD = 20.0  # seconds for what else is left on disk: less than `last_resort` has to spare
_EXIT_DELAY = 3.0  # seconds for the other ranks to notice as well, and to print their stacks


def limits(health: Health, progress: Progress) -> Limits:
    """The limits of the next step; a function of values that all ranks share, so that they agree."""
    if len(progress.losses) < _MEDIAN_FROM:
        return Limits()
    loss = norm = math.inf
    if health.loss_spike is not None:
        loss = statistics.median(progress.losses) + health.loss_spike
    if health.gradient_spike is not None:
        norm = statistics.median(progress.gradient_norms) * health.gradient_spike
    return Limits(loss, norm)


def problem(health: Health, progress: Progress, loss: float, gradient_norm: float) -> str | None:
    """The fault of a step, or None, by `limits`."""
    allowed = limits(health, progress)
    if not math.isfinite(loss):
        return f"loss {loss}"
    if not math.isfinite(gradient_norm):
        return "gradient not finite"
    if loss > allowed.loss:
        return f"loss {loss:.3f}, the median is {statistics.median(progress.losses):.3f}"
    if gradient_norm > allowed.gradient_norm:
        usual = statistics.median(progress.gradient_norms)
        return f"gradient norm {gradient_norm:.3g}, the median is {usual:.3g}"
    return None


class Watchdog:
    """Ends the attempt, for a requeue, when an operation hangs; one in every rank.

    The stacks of all threads go to the log first. No `end.json` is written: the attempt has crashed,
    and `hang.json` marks it as a hang. Time in which the process was stopped does not count.
    """

    def __init__(
        self,
        note: Path,
        job: str,
        rank: int,
        bound: float,
        first: float,
        record: Callable[[], None] | None = None,
    ) -> None:
        """`bound`: minimum time limit, seconds; `first`: seconds from now to the end of the first step.

        `record` leaves more on disk about a hang; it may fail, or block.
        """
        self._record = record
        self._note, self._job, self._rank, self._bound = note, job, rank, bound
        self._seconds: deque[float] = deque(maxlen=100)
        self._what = "start"
        self.clock = RunningClock(min(1.0, bound / 10))
        self._began = self.clock.now()
        self._allowed = first
        self._quiet = threading.Event()
        self._last_resort = LastResort()
        self._last_resort.allow(first)
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def begin(self, what: str, seconds: float = 0.0) -> None:
        """Start to watch an operation that usually takes a step's time, or `seconds` if that is longer."""
        self._what, self._began = what, self.clock.now()
        if self._seconds:
            usual = statistics.median(self._seconds)
            self._allowed = max(self._bound, _HANG_FACTOR * max(usual, seconds))

    def step_ended(self, seconds: float) -> None:
        """Record how long a step took."""
        self._seconds.append(seconds)

    def disarm(self) -> None:
        """Stop watching."""
        self._quiet.set()
        self._last_resort.close()

    def look(self) -> None:
        """End this process if the operation has taken too long; called once per tick."""
        self.clock.beat()
        seconds = self.clock.now() - self._began
        if seconds > self._allowed:
            self._end(seconds)
        self._last_resort.allow(self._allowed - seconds)

    def _watch(self) -> None:
        while not self._quiet.wait(self.clock.tick):
            self.look()

    def _end(self, seconds: float) -> None:
        elapsed = quantities.duration(seconds)
        log.error(f"{self._what} has not ended after {elapsed}; the stacks of all threads follow")
        faulthandler.dump_traceback()
        note = {"job": self._job, "rank": self._rank, "what": self._what, "seconds": seconds}
        try:
            if not self._note.exists():  # the first rank to notice is closest to the cause
                write_json(self._note, note)
        except OSError as error:
            log.error(f"{self._note}: {error.strerror}")
        sys.stderr.flush()
        if self._record is not None:
            recording = threading.Thread(target=self._record, daemon=True, name="record")
            recording.start()
            recording.join(_RECORD)
        time.sleep(_EXIT_DELAY)
        os._exit(1)
