"""Why an attempt is to end before its last step, and how the ranks come to agree on it.

A handler only sets a flag; rank 0 also looks at the clock and for files. Between micro-batches the
ranks take the maximum of what they know: all of them leave, at the same place, or none does,
whichever of them was told.
"""

from __future__ import annotations

import os
import signal
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from kit.output import log

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from kit.store.paths import Attempt, Run
    from kit.store.records import Outcome


class Reason(IntEnum):
    """Why to leave; the greater one stands where there are two."""

    NONE = 0
    TIME_LIMIT = 1
    SIGTERM = 2
    STOP_FILE = 3
    SUPERSEDED = 4

    @property
    def outcome(self) -> Outcome:
        """The word in `end.json`."""
        outcomes: dict[int, Outcome] = {3: "stopped", 4: "superseded"}
        return outcomes.get(self.value, "interrupted")

    @property
    def text(self) -> str:
        """The reason in `end.json`."""
        words = ("", "time limit", "SIGTERM", "STOP file", "a newer attempt of the run has begun")
        return words[self.value]


# USR2 comes before a time limit, TERM with a preemption or an scancel.
SIGNALS = {signal.SIGUSR2: Reason.TIME_LIMIT, signal.SIGTERM: Reason.SIGTERM}


class Interruption:
    """What this process was told. Handlers are installed when it is made."""

    def __init__(self) -> None:
        self.received = Reason.NONE
        self.at: float | None = None  # the monotonic time of the first signal
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)  # Slurm sends it first, to stopped jobs

    def note(self, reason: Reason) -> None:
        """Take a reason in."""
        self.received = max(self.received, reason)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.at = self.at or time.monotonic()
        self.note(SIGNALS[signal.Signals(number)])


class StopMonitor:
    """Rank 0's look at the clock, and for files in the run directory; once a second at the most.

    Other ranks see nothing, and are told.
    """

    def __init__(
        self, run: Run, attempt: Attempt, interruption: Interruption, rank: int = 0
    ) -> None:
        self._run, self._interruption, self._rank = run, interruption, rank
        self._attempt = attempt.number
        end = os.environ.get("EKIDEN_END_TIME")
        self._end = float(end) if end else None  # Unix time
        self._looked = 0.0

    def poll(self, seconds_needed: Callable[[], float]) -> None:
        """Note what is seen; `seconds_needed` is how long it takes to leave, with a save."""
        if self._rank > 0 or time.monotonic() < self._looked + 1.0:
            return
        self._looked = time.monotonic()
        if self._end is not None and time.time() + seconds_needed() > self._end:
            self._interruption.note(Reason.TIME_LIMIT)
        if self._run.stop.exists():
            if self._interruption.received < Reason.STOP_FILE:
                log.info("the file STOP is there: training saves and ends")
            self._interruption.note(Reason.STOP_FILE)
        later = (a for a in self._run.claimed_attempts() if a.number > self._attempt)
        if any(attempt.start.exists() for attempt in later):
            self._interruption.note(Reason.SUPERSEDED)

    def take_save_request(self) -> bool:
        """Whether a user asks for a checkpoint; the question is taken away."""
        if self._rank > 0 or not self._run.save.exists():
            return False
        self._run.save.unlink(missing_ok=True)
        log.info("the file SAVE was there: a checkpoint is made")
        return True

    def seconds_left(self, grace: float | None) -> float:
        """Until the job is killed, as far as it is known."""
        left = float("inf")
        if self._end is not None:
            left = self._end - time.time()
        signalled = self._interruption.at
        if grace is not None and signalled is not None:
            left = min(left, signalled + grace - time.monotonic())
        return left
