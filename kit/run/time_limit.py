"""The end of a job's time limit, which may move while the job runs.

    time_limit.ask_by(ask)          # kit/cluster, before the work of a task: how to ask the scheduler
    limit = time_limit.of_job()     # kit/training
    limit.is_near(90.0)             # as often as you like

An administrator may extend or shorten a limit, and Slurm extends it by the time that a job was suspended.
The scheduler is asked in a thread, so that no step waits, and at most once a minute.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from kit.output import log

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[], float | None]
    Start = Callable[[Callable[[], None]], None]

VARIABLE = "EKIDEN_END_TIME"  # Unix time, as known when the job started
USUALLY = 300.0  # seconds between questions, for a limit that was shortened
_AT_MOST = 60.0  # the same near the end; an answer is good for as long
_PATIENCE = 30.0  # seconds to wait for an answer; without one the end known before counts

_ask: Ask | None = None


class Unknown(Exception):  # noqa: N818  an answer, not an error
    """Raised by `Ask` if the scheduler does not answer, or not about this start of the job."""


def ask_by(ask: Ask | None) -> None:
    """Set how this process asks its scheduler: the end as Unix time, None if there is no limit."""
    global _ask  # noqa: PLW0603  a fact about the process, like its environment
    _ask = ask


def of_job() -> TimeLimit:
    """The time limit of the job that this process belongs to."""
    end = os.environ.get(VARIABLE)
    return TimeLimit(float(end) if end else None, _ask)


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True, name="time limit").start()


class TimeLimit:
    """The end of the time limit, kept up to date."""

    def __init__(
        self,
        end: float | None,
        ask: Ask | None = None,
        clock: Callable[[], float] = time.monotonic,
        start: Start = _in_a_thread,
    ) -> None:
        """`end` as Unix time, None if there is no limit; without `ask` it never moves."""
        self.end = end
        self._ask, self._clock, self._start = ask, clock, start
        # When the last question, and the last one with an answer, were asked: by the job's script.
        self._asked = self._answered = clock()

    def is_near(self, seconds: float) -> bool:
        """Whether the job ends within `seconds`, by an answer of the last minute if there is one."""
        left = self.left()
        if self._ask is None:
            return left < seconds
        now = self._clock()
        if now - self._asked >= (_AT_MOST if left < seconds + _PATIENCE else USUALLY):
            self._begin_to_ask(now)
        fresh = now - self._answered < _AT_MOST + _PATIENCE
        return self.left() < seconds and (fresh or now - self._asked >= _PATIENCE)

    @property
    def is_known(self) -> bool:
        """Whether the scheduler told when the job ends, or that it has no limit."""
        return self.end is not None or self._ask is not None

    def left(self) -> float:
        """Seconds until the end, by the last answer; infinite if there is no limit."""
        return float("inf") if self.end is None else self.end - time.time()

    def _begin_to_ask(self, now: float) -> None:
        self._asked = now
        self._start(lambda: self._answer(now))

    def _answer(self, asked: float) -> None:
        assert self._ask is not None
        try:
            end = self._ask()
        except Unknown:
            return
        if asked == self._asked:  # a later question may have been answered first
            self._set(end)
            self._answered = asked

    def _set(self, end: float | None) -> None:
        before, self.end = self.end, end
        if not _same(before, end):
            ends = "has no limit" if end is None else f"ends at {_clock_time(end)}"
            known = "" if before is None else f", not at {_clock_time(before)}"
            log.info(f"the time limit was changed: this attempt now {ends}{known}")


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= 1.0  # Slurm rounds


def _clock_time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
