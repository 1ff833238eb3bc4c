"""A snapshot of a run: its files at one moment, read once into a frozen value.

    seen = snapshot(run)
    seen.steps.loss[-1], seen.attempts[-1].end, seen.stopped
    seen = snapshot(run, seen)     # later: only what has changed is read

Only files are read: the submission, decisions about requeues, mistakes that ended a job, attempts with
their ledgers, ends and hangs, and the committed checkpoints. kit/relay/job_status.py adds the queue and
this machine.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.cluster.jobs import sent
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kit.cluster.jobs import Verb
    from kit.config.cluster import Cluster
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Start
    from kit.tracking.columns import LedgerColumns, Mask, StepColumns
    from kit.tracking.rows import StepRow, ValidationRow

RECENT = 1000


@dataclass(frozen=True)
class Submitted:
    """The jobs submitted last."""

    time: float = 0.0  # Unix time; 0: nothing was submitted
    slurm: Mapping[str, str] = field(default_factory=dict)  # ids by stage
    here: Mapping[str, float | None] = field(default_factory=dict)  # start of each, in order
    node: str | None = None  # the machine that runs those of `here`
    by: Verb | None = None  # that started those of `here`; not recorded by earlier versions
    tasks: Mapping[str, tuple[int, int]] = field(
        default_factory=dict
    )  # of the arrays of `here`: how many run, how many wait
    sent: Mapping[str, float] = field(
        default_factory=dict
    )  # Unix time of each stage's last submission

    def verb_on(self, cluster: Cluster) -> Verb:
        """The verb that continues the run on a cluster, as it was started."""
        if not cluster.is_this_machine:
            return "submit"
        return self.by or "run"

    def since(self, name: str) -> float:
        """Unix time of the last submission of a stage; 0 if it never was submitted."""
        return self.sent.get(name, self.time if name in {*self.slurm, *self.here} else 0.0)


@dataclass(frozen=True)
class Mistake:
    """A user's mistake that ended a job."""

    job: str  # the token of its start
    message: str
    time: float  # Unix time


@dataclass(frozen=True)
class LastEnd:
    """The recorded end of an attempt."""

    outcome: str  # done, stopped, failed, interrupted, superseded
    reason: str | None
    step: int
    time: float | None = None  # Unix time


@dataclass(frozen=True)
class Hang:
    """A hang that an attempt detected, and ended itself for."""

    rank: int
    what: str
    seconds: float  # from the start of what did not end, until it was detected
    time: float  # Unix time of the detection


@dataclass(frozen=True)
class AttemptFacts:
    """One attempt of the training job."""

    number: int
    start: Start | None  # its start.json; None: it died after claiming its number
    end: LastEnd | None  # None: it is running, or has crashed
    hang: Hang | None
    ledger: LedgerColumns | None = None  # None: not read
    damage: str | None = None  # what could not be read
    signature: tuple[object, ...] = ()  # changes if one of its files does

    @property
    def rows(self) -> LedgerColumns:
        """Its ledger; nothing if that was not read."""
        from kit.tracking import columns

        return self.ledger or columns.NOTHING


@dataclass(frozen=True)
class Snapshot:
    """Everything the files of a run say."""

    run: Run
    made: float | None  # Unix time at which the run directory was laid out: the first submission
    submitted: Submitted
    decisions: Sequence[decisions.RequeueRecord]  # rows of requeues.jsonl
    mistakes: Mapping[str, Mistake]  # by stage
    attempts: Sequence[AttemptFacts]  # all that were claimed, in order
    checkpoints: Sequence[tuple[int, int]]  # step and attempt of each committed one, sorted
    current: Sequence[Mask]  # of each attempt that started: its steps that are part of the curve
    recent: Sequence[StepRow]  # the last RECENT steps of the curve, as whole rows

    @property
    def begun(self) -> list[AttemptFacts]:
        """The attempts that started."""
        return [attempt for attempt in self.attempts if attempt.start is not None]

    @functools.cached_property
    def steps(self) -> StepColumns:
        """The steps of the curve, each once."""
        from kit.tracking import columns

        begun = zip(self.begun, self.current, strict=True)
        return columns.joined([one.rows.steps.where(mask) for one, mask in begun])

    @property
    def validations(self) -> list[ValidationRow]:
        """The validations of the curve, each once."""
        kept: list[ValidationRow] = []
        for one in self.begun:
            assert one.start is not None
            _truncate(kept, one.start["from_step"])
            for row in one.rows.events:
                if row["kind"] == "rollback":
                    _truncate(kept, row["to_step"])
                elif row["kind"] == "validation":
                    _truncate(kept, row["step"] - 1)  # of the same step: the newer one counts
                    kept.append(row)
        return kept

    @property
    def damage(self) -> list[str]:
        """What could not be read."""
        return [
            what
            for one in self.attempts
            if (what := one.damage or (one.ledger and one.ledger.damage))
        ]

    @property
    def saved(self) -> int | None:
        """The last step with a committed checkpoint."""
        return self.checkpoints[-1][0] if self.checkpoints else None

    @property
    def verdict(self) -> str | None:
        """The reason that ended the training job submitted last, according to the last decision."""
        return decisions.verdict(self.decisions, self.submitted.since("train"))

    @property
    def stopped(self) -> str | None:
        """Why the training job is no longer running, if it ended before its last step."""
        if reason := self.verdict:  # also for a job that ended before its first attempt
            return reason
        if not self.attempts:
            return None
        end = self.attempts[-1].end
        if end is None:
            # No decision was recorded: the exit trap, or the supervisor, was killed first.
            return "it ended without recording a reason (killed?)"
        return None if end.outcome == "done" else f"{end.outcome} ({end.reason})"


def snapshot(run: Run, earlier: Snapshot | None = None, *, curve: bool = True) -> Snapshot:
    """Read the files of a run; `curve=False` skips the ledgers, which are large for a long run.

    Attempts whose files have not changed are taken from an `earlier` snapshot.
    """
    known = {one.number: one for one in earlier.attempts} if earlier else {}
    attempts = [
        _attempt(attempt, known.get(attempt.number), read_rows=curve)
        for attempt in run.claimed_attempts()
    ]
    current, recent = _curve(run, attempts) if any(one.start for one in attempts) else ([], [])
    return Snapshot(
        run,
        read_json(run.identity).get("time") if run.identity.is_file() else None,
        _submitted(run),
        decisions.read(run),
        _mistakes(run),
        attempts,
        sorted(run.committed_checkpoints().values()),
        current,
        recent,
    )


def _curve(run: Run, attempts: Sequence[AttemptFacts]) -> tuple[list[Mask], list[StepRow]]:
    """The steps of each attempt that started that are part of the curve, and the last of them."""
    from kit.tracking import columns

    begun = [(one.start["from_step"], one.rows) for one in attempts if one.start]
    current = columns.current(begun)
    folders = [run.attempt(one.number) for one in attempts if one.start]
    return current, _recent(folders, begun, current)


def _recent(
    attempts: Sequence[Attempt], begun: Sequence[tuple[int, LedgerColumns]], current: Sequence[Mask]
) -> list[StepRow]:
    """The last RECENT steps of the curve."""
    from kit.tracking import columns

    rows: list[StepRow] = []
    for attempt, (_, of_ledger), mask in reversed([*zip(attempts, begun, current, strict=True)]):
        if len(rows) >= RECENT:
            break
        steps = set(of_ledger.steps.step[mask][-RECENT:].tolist())
        last = {row["step"]: row for row in columns.last_steps(attempt, RECENT)}  # the newer one
        rows = [row for step, row in sorted(last.items()) if step in steps] + rows
    return rows[-RECENT:]


def _truncate(rows: list[ValidationRow], step: int) -> None:
    """Remove the rows beyond a step."""
    while rows and rows[-1]["step"] > step:
        rows.pop()


def _submitted(run: Run) -> Submitted:
    if not run.jobs.is_file():
        return Submitted()
    jobs = read_json(run.jobs)
    return Submitted(
        jobs.get("time", 0.0),
        jobs.get("slurm", {}),
        {job["name"]: job.get("begun") for job in jobs.get("local", ())},
        jobs.get("node"),
        jobs.get("verb"),
        {
            job["name"]: (job["running"], job["queued"])
            for job in jobs.get("local", ())
            if "running" in job
        },
        {name: row["time"] for name, row in sent(run).items()},
    )


def _mistakes(run: Run) -> dict[str, Mistake]:
    mistakes = {}
    for name in sorted(path.name for path in run.submissions.glob("*/")):
        if (path := run.mistake(name)).is_file():
            row = read_json(path)
            mistakes[name] = Mistake(row["job"], row["message"], path.stat().st_mtime)
    return mistakes


def _attempt(attempt: Attempt, known: AttemptFacts | None, *, read_rows: bool) -> AttemptFacts:
    signature = (
        read_rows,
        *map(_changed, (attempt.start, attempt.ledger, attempt.end, attempt.hang)),
    )
    if known is not None and known.signature == signature:
        return known
    try:
        return AttemptFacts(
            attempt.number,
            read_json(attempt.start) if attempt.start.is_file() else None,
            _end(attempt),
            _hang(attempt),
            _ledger(attempt) if read_rows else None,
            signature=signature,
        )
    except (OSError, ValueError, KeyError) as error:
        damage = f"{attempt.root}: {type(error).__name__}: {error}; the attempt is left out"
        return AttemptFacts(attempt.number, None, None, None, damage=damage)


def _ledger(attempt: Attempt) -> LedgerColumns:
    from kit.tracking import columns  # numpy: not for a status without training

    return columns.read(attempt)


def _changed(path: Path) -> tuple[int, int] | None:
    """Time and size of a file; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _end(attempt: Attempt) -> LastEnd | None:
    if not attempt.end.is_file():
        return None
    end = read_json(attempt.end)
    return LastEnd(end["outcome"], end.get("reason"), end["step"], end.get("time"))


def _hang(attempt: Attempt) -> Hang | None:
    if not attempt.hang.is_file():
        return None
    hang = read_json(attempt.hang)
    seconds = hang.get("seconds", 0.0)
    return Hang(hang["rank"], hang["what"], seconds, attempt.hang.stat().st_mtime)
