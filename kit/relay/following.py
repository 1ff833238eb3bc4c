"""Whether jobs whose logs are followed are still queued or running, without asking the queue often.

    going_on = Jobs(run, ["train"], say)
    while going_on(seconds_without_a_line): ...

It looks at files and at this machine every two seconds. Slurm is asked after ten seconds without a line,
and at most every 30 s; for a minute after a decision on a requeue at most every 5 s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kit.cluster.snapshot import snapshot
from kit.relay import job_status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.relay.job_status import JobStatus
    from kit.store.paths import Run

_HERE = 2.0  # seconds between two questions, to this machine
_SLURM, _AFTER_DECISION = 30.0, 5.0  # to Slurm
_QUIET = 10.0  # seconds without a line
_NEWS = 60.0  # seconds that a decision is news


@dataclass
class Jobs:
    """Jobs of one run by their names; `say` gets a line whenever their state changes."""

    run: Run
    names: Sequence[str]
    say: Callable[[str], None]
    _asked: float = field(default=float("-inf"))  # monotonic times
    _decided: float = field(default=float("-inf"))
    _decisions: int = -1  # bytes of the record of decisions
    _on_slurm: bool = False
    _alive: bool = True
    _told: dict[str, str] = field(default_factory=dict)

    def __call__(self, quiet: float) -> bool:
        """Whether one of them is queued or running; `quiet`: seconds since the last line of their logs."""
        now = time.monotonic()
        if self._is_due(quiet, now):
            self._asked = now
            self._alive = self._ask()
        return self._alive

    def _is_due(self, quiet: float, now: float) -> bool:
        size = self.run.requeues.stat().st_size if self.run.requeues.is_file() else 0
        if size != self._decisions:
            if self._decisions >= 0:
                self._decided = now
            self._decisions = size
        if not self._on_slurm:
            return now >= self._asked + _HERE
        if now < self._decided + _NEWS:
            return now >= self._asked + _AFTER_DECISION
        return quiet >= _QUIET and now >= self._asked + _SLURM

    def _ask(self) -> bool:
        submission = job_status.read(snapshot(self.run, curve=False))
        self._on_slurm = bool(submission.seen.submitted.slurm)
        if submission.queue.silent:  # it may be there again soon
            self._tell("Slurm", submission.queue.silent)
            return True
        alive = False
        for name in self.names:
            alive |= job_status.is_alive(submission, name)
            if job_status.has_begun(submission, name):
                status = job_status.of_stage(submission, name, ())
                alive |= status is not None and status.state == "unknown"
                self._tell(name, _words(status) if status else "over")
        return alive

    def _tell(self, name: str, words: str) -> None:
        if self._told.get(name) != words:
            self._told[name] = words
            self.say(f"{name}: {words}")


def _words(status: JobStatus) -> str:
    """The state, with the reason of a requeue or of an end; what Slurm waits for changes all the time."""
    reason = (status.reason or "").partition("; Slurm: ")[0]
    tells = status.state not in job_status.ALIVE or reason.startswith("requeued")
    return f"{status.state}, {reason}" if reason and tells else status.state
