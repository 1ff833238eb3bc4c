"""Whether jobs whose logs are followed are still queued or running, without asking the queue often.

    going_on = Jobs(run, ["train"], say)
    while going_on(seconds_without_a_line): ...

This machine is looked at every two seconds. Slurm is asked after ten seconds without a line, and once a
minute at most: in between, its last answer stands, and the end that the training's exit trap records.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kit.cluster.snapshot import snapshot
from kit.relay import job_status, queue_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.cluster.snapshot import Snapshot
    from kit.relay.job_status import JobStatus
    from kit.relay.queue_answer import QueueAnswer
    from kit.store.paths import Run

_HERE = 2.0  # seconds between two looks at this machine
_SLURM = 60.0  # between two questions to Slurm
_QUIET = 10.0  # seconds without a line


@dataclass
class Jobs:
    """Jobs of one run by their names; `say` gets a line whenever their state changes."""

    run: Run
    names: Sequence[str]
    say: Callable[[str], None]
    _asked: float = field(default=float("-inf"))  # monotonic time
    _decisions: int = -1  # bytes of the record of decisions
    _answer: QueueAnswer | None = None
    _seen: Snapshot | None = None
    _alive: bool = True
    _told: dict[str, str] = field(default_factory=dict)

    def __call__(self, quiet: float) -> bool:
        """Whether one of them is queued or running; `quiet`: seconds since the last line of their logs."""
        now = time.monotonic()
        size = self.run.requeues.stat().st_size if self.run.requeues.is_file() else 0
        if asks := self._is_due(quiet, now):
            self._asked = now
        if asks or size != self._decisions:
            self._decisions = size
            self._alive = self._look(ask=asks)
        return self._alive

    def _is_due(self, quiet: float, now: float) -> bool:
        if self._seen is None or not self._seen.submitted.slurm:
            return now >= self._asked + _HERE
        return quiet >= _QUIET and now >= self._asked + _SLURM

    def _look(self, *, ask: bool) -> bool:
        seen = self._seen = snapshot(self.run, self._seen, curve=False)
        if ask or self._answer is None:
            self._answer = queue_answer.ask(seen, self._answer)
        submission = job_status.read(seen, self._answer)
        if seen.submitted.slurm and self._answer.silent:  # it may be there again soon
            self._tell("Slurm", self._answer.silent)
            return True
        alive = False
        for name in self.names:
            alive |= job_status.is_alive(submission, name)
            if job_status.has_begun(submission, name):
                status = job_status.of_stage(submission, name)
                alive |= status is not None and status.state == "unknown"
                self._tell(name, _words(status) if status else "over")
        return alive

    def _tell(self, name: str, words: str) -> None:
        if self._told.get(name) != words:
            self._told[name] = words
            self.say(f"{name}: {words}")


def _words(status: JobStatus) -> str:
    """The state, with the reason of a requeue or of an end; Slurm's reason to wait changes all the time."""
    reason = (status.reason or "").partition("; Slurm: ")[0]
    tells = status.state not in job_status.ALIVE or reason.startswith("requeued")
    return f"{status.state}, {reason}" if reason and tells else status.state
