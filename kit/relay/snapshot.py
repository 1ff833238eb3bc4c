"""What the files of a run say at one moment, read once into one frozen value.

    seen = snapshot(run)
    seen.steps[-1], seen.attempts[-1].end, seen.stopped

Only files are read: what was submitted, decisions over requeues, mistakes that ended a job, attempts with
their ledgers, how each ended or hung, and which checkpoints are committed. What the queue and this machine
say of it besides, kit/relay/job_status.py asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.store.files import read_json
from kit.tracking import ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.store.paths import Attempt, Run
    from kit.store.records import Start
    from kit.tracking.rows import CurveRow, Row, StepRow


@dataclass(frozen=True)
class Submitted:
    """The jobs that were submitted last."""

    time: float = 0.0  # Unix time
    slurm: Mapping[str, str] = field(default_factory=dict)  # ids by stage
    here: Mapping[str, float | None] = field(default_factory=dict)  # when each began, in order
    node: str | None = None  # where those of `here` run


@dataclass(frozen=True)
class Mistake:
    """A user's mistake that ended a job."""

    job: str  # the token of its start
    message: str
    time: float  # Unix time


@dataclass(frozen=True)
class LastEnd:
    """How an attempt ended: its last words."""

    outcome: str  # done, stopped, failed, interrupted, superseded
    reason: str | None
    step: int


@dataclass(frozen=True)
class Hang:
    """What had no end, so that an attempt ended itself."""

    rank: int
    what: str


@dataclass(frozen=True)
class Tried:
    """One attempt of the training job."""

    number: int
    start: Start | None  # of its start.json; None: it was claimed, and died before
    end: LastEnd | None  # None: it is at work, or has crashed
    hang: Hang | None
    rows: Sequence[Row]  # of its ledger


@dataclass(frozen=True)
class Snapshot:
    """What is known of a run from its files."""

    run: Run
    submitted: Submitted
    decisions: Sequence[decisions.RequeueRecord]  # rows of requeues.jsonl
    mistakes: Mapping[str, Mistake]  # by stage
    attempts: Sequence[Tried]  # all that were claimed, in order
    checkpoints: Sequence[tuple[int, int]]  # step and attempt of each that is committed, sorted
    curve: Sequence[CurveRow]  # each step and validation once

    @property
    def begun(self) -> list[Tried]:
        """The attempts that began."""
        return [attempt for attempt in self.attempts if attempt.start is not None]

    @property
    def steps(self) -> list[StepRow]:
        """The rows of the steps, each once."""
        return [row for row in self.curve if row["kind"] == "step"]

    @property
    def saved(self) -> int | None:
        """The last step with a committed checkpoint."""
        return self.checkpoints[-1][0] if self.checkpoints else None

    @property
    def verdict(self) -> str | None:
        """What ended the training job that was submitted last, as the decision over a requeue has it."""
        names = {*self.submitted.slurm, *self.submitted.here}
        since = self.submitted.time if "train" in names else 0.0
        return decisions.verdict(self.decisions, since)

    @property
    def stopped(self) -> str | None:
        """Why the training job is not at work any more, where it ended before its last step."""
        if reason := self.verdict:  # also of a job that ended before it began an attempt
            return reason
        if not self.attempts:
            return None
        end = self.attempts[-1].end
        if end is None:
            # No decision was written down: the exit trap, or the supervisor, was killed before it.
            return "it ended without a word"
        return None if end.outcome == "done" else f"{end.outcome} ({end.reason})"


def snapshot(run: Run, *, curve: bool = True) -> Snapshot:
    """What the files of a run say now; without `curve` no ledger is read: that of a long run is long."""
    attempts = [_tried(attempt, read_rows=curve) for attempt in run.claimed_attempts()]
    return Snapshot(
        run,
        _submitted(run),
        decisions.recorded(run),
        _mistakes(run),
        attempts,
        sorted(run.committed_checkpoints().values()),
        ledger.fold((one.start["from_step"], one.rows) for one in attempts if one.start),
    )


def _submitted(run: Run) -> Submitted:
    if not run.jobs.is_file():
        return Submitted()
    found = read_json(run.jobs)
    return Submitted(
        found.get("time", 0.0),
        found.get("slurm", {}),
        {job["name"]: job.get("begun") for job in found.get("local", ())},
        found.get("node"),
    )


def _mistakes(run: Run) -> dict[str, Mistake]:
    found = {}
    for name in sorted(path.name for path in run.submissions.glob("*/")):
        if (path := run.mistake(name)).is_file():
            row = read_json(path)
            found[name] = Mistake(row["job"], row["message"], path.stat().st_mtime)
    return found


def _tried(attempt: Attempt, *, read_rows: bool) -> Tried:
    return Tried(
        attempt.number,
        read_json(attempt.start) if attempt.start.is_file() else None,
        _end(attempt),
        _hang(attempt),
        [*ledger.rows(attempt)] if read_rows else [],
    )


def _end(attempt: Attempt) -> LastEnd | None:
    if not attempt.end.is_file():
        return None
    found = read_json(attempt.end)
    return LastEnd(found["outcome"], found.get("reason"), found["step"])


def _hang(attempt: Attempt) -> Hang | None:
    if not attempt.hang.is_file():
        return None
    found = read_json(attempt.hang)
    return Hang(found["rank"], found["what"])
