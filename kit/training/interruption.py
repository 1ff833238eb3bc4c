"""Reasons for an attempt to end before its last step, and how the ranks agree on one.

A signal handler only sets a flag; rank 0 also checks the clock and looks for files. Between
micro-batches the ranks take the maximum of their reasons: all of them leave, at the same point, or
none does, no matter which of them got a signal.
"""

from __future__ import annotations

import os
import signal
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from kit.output import log
from kit.run import time_limit
from kit.store.records import BY_USER, WARNED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Outcome


class Reason(IntEnum):
    """Why to leave; of several reasons the greatest counts."""

    NONE = 0
    WARNED = 1
    TIME_LIMIT = 2
    SIGTERM = 3
    CANCELLED = 4
    STOP_FILE = 5
    SUPERSEDED = 6

    @property
    def outcome(self) -> Outcome:
        """The outcome in `end.json`."""
        outcomes: dict[int, Outcome] = {5: "stopped", 6: "superseded"}
        return outcomes.get(self.value, "interrupted")

    @property
    def text(self) -> str:
        """The reason in `end.json`."""
        return _TEXTS[self.value]


_TEXTS = (
    "",
    WARNED,
    "time limit",
    "SIGTERM",
    BY_USER,
    "STOP file",
    "a newer attempt of the run has begun",
)
# USR2 comes before a time limit, and at sites with preempt_send_user_signal with a preemption; TERM with a
# preemption or an scancel. INT only from `cancel`, and from the
# supervisor after Ctrl-C or `kill`.
SIGNALS = {
    signal.SIGUSR2: Reason.WARNED,
    signal.SIGTERM: Reason.SIGTERM,
    signal.SIGINT: Reason.CANCELLED,
}

_EARLY = (
    90  # seconds by which Slurm's warning may come before it is due (sbatch --signal: up to 60)
)


class Interruption:
    """Signals and other reasons to stop that this process received. Installs the signal handlers."""

    def __init__(self) -> None:
        self.received = Reason.NONE
        self.signalled_at: float | None = None  # monotonic time of the first signal
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)  # Slurm sends it first, to stopped jobs

    def note(self, reason: Reason) -> None:
        """Record a reason."""
        self.received = max(self.received, reason)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        # `cancel` on Slurm waits for the save; the supervisor of this machine kills after a grace time.
        if number != signal.SIGINT or "EKIDEN_SUPERVISOR" in os.environ:
            self.signalled_at = self.signalled_at or time.monotonic()
        self.note(SIGNALS[signal.Signals(number)])


class StopMonitor:
    """Rank 0's check of the clock and of files in the run directory, at most once a second.

    On other ranks it does nothing: they learn the reason from rank 0.
    """

    def __init__(
        self, run: Run, attempt: Attempt, interruption: Interruption, rank: int = 0
    ) -> None:
        self._run, self._interruption, self._rank = run, interruption, rank
        self._attempt = attempt.number
        self._limit = time_limit.of_job()
        self._polled = 0.0

    def poll(self, seconds_needed: Callable[[], float]) -> None:
        """Record a reason to stop, if there is one; `seconds_needed` to leave, including a save."""
        if self._rank > 0 or time.monotonic() < self._polled + 1.0:
            return
        self._polled = time.monotonic()
        if self._limit.is_near(seconds_needed()):
            self._interruption.note(Reason.TIME_LIMIT)
        if self._run.stop.exists():
            if self._interruption.received < Reason.STOP_FILE:
                log.info("STOP file found: saving, then stopping")
            self._interruption.note(Reason.STOP_FILE)
        later = (a for a in self._run.claimed_attempts() if a.number > self._attempt)
        if any(attempt.start.exists() for attempt in later):
            self._interruption.note(Reason.SUPERSEDED)

    def explained(self, reason: Reason, warning_seconds: float) -> Reason:
        """The time limit instead of its warning, unless the limit is known to be far."""
        if reason is not Reason.WARNED:
            return reason
        left = self._limit.left() if self._limit.is_known else float("-inf")
        return reason if left > warning_seconds + _EARLY else Reason.TIME_LIMIT

    def take_save_request(self) -> bool:
        """Whether a user asks for a checkpoint; removes the SAVE file."""
        if self._rank > 0 or not self._run.save.exists():
            return False
        self._run.save.unlink(missing_ok=True)
        log.info("SAVE file found: saving a checkpoint")
        return True

    def seconds_left(self, grace: float | None) -> float:
        """Seconds until the job is killed; infinite if no limit is known."""
        left = self._limit.left()
        signalled_at = self._interruption.signalled_at
        if grace is not None and signalled_at is not None:
            left = min(left, signalled_at + grace - time.monotonic())
        return left
