"""The status of each stage, from the survey of its units and the status of its job.

`of_chain` is a pure function of both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from kit.output import program
from kit.relay import job_status, logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kit.cluster.snapshot import Snapshot
    from kit.relay.job_status import JobStatus, Submission
    from kit.store.units import Fault, Survey

State = Literal["done", "not begun", "incomplete", "waiting", "stale", "broken"] | job_status.State

_KEEPS_ITS_INPUT = "train"  # a run that has started refuses other tokens than its own
_ENDED_WORDS = {
    "failed": "failed",
    "cancelled": "was cancelled",
    "stopped": "was stopped",
    "interrupted": "was interrupted",
}


@dataclass(frozen=True)
class StageStatus:
    """The status of one stage."""

    name: str
    state: State
    counts: Mapping[str, int]  # units that are done, missing, stale, broken; empty if not known
    reason: str | None = None
    since: float | None = None  # Unix time of the state
    unit: str | None = None  # the unit being made, or the one that failed
    job: str | None = None  # `job 17_1`, `process 123`
    log: Path | None = None
    tail: Sequence[str] = ()  # the last lines of the log
    faults: Sequence[Fault] = ()  # stale and broken units, the first by name
    waits: str | None = None  # why its units are not known
    running: int = 0  # tasks
    starts: float | None = None  # Unix time at which Slurm expects a queued job to start
    ends: float | None = None  # Unix time of the time limit of a running one
    remedy: str | None = None  # the command that lets a queued one start

    @property
    def trouble(self) -> bool:
        """Whether the user has to do something."""
        return self.state not in ("done", "not begun", "waiting", *job_status.ALIVE)

    def facts(self) -> dict[str, Any]:
        """As JSON; the counts are keys of their own, and the other keys are always present."""
        rest = {
            "state": self.state,
            "reason": self.reason,
            "since": self.since,
            "unit": self.unit,
            "job": self.job,
            "log": str(self.log) if self.log else None,
            "tail": list(self.tail),
            "faults": [asdict(fault) for fault in self.faults],
            "tasks_running": self.running,
            "starts": self.starts,
            "ends": self.ends,
        }
        return {**self.counts, **({"waits": self.waits} if self.waits else {}), **rest}


@dataclass
class _Before:
    """The stages before the present one that are not done."""

    unfinished: dict[str, State] = field(default_factory=dict)
    first: StageStatus | None = None

    def add(self, stage: StageStatus) -> None:
        if stage.name == _KEEPS_ITS_INPUT and stage.state == "done":
            self.unfinished, self.first = {}, None  # those behind it read nothing else
        if stage.state != "done":
            self.unfinished[stage.name] = stage.state
            self.first = self.first or stage


def of_chain(submission: Submission, surveys: Mapping[str, Survey]) -> list[StageStatus]:
    """The status of each stage of a relay, in order."""
    before = _Before()
    stages = []
    for name, survey in surveys.items():
        # Of a finished stage only a job in the queue matters: how an earlier one ended is not looked up.
        over = survey.complete and not job_status.is_alive(submission, name)
        job = None if over else job_status.of_stage(submission, name, before.unfinished)
        amended = name == _KEEPS_ITS_INPUT and _was_done(submission.seen)
        stages.append(_respelled(_of_stage(name, survey, job, before.first, amended=amended)))
        before.add(stages[-1])
    return stages


def _respelled(stage: StageStatus) -> StageStatus:
    """The commands in what a job or an error has said, spelled as in this process."""
    reason, waits = (text and program.respelled(text) for text in (stage.reason, stage.waits))
    return replace(stage, reason=reason, waits=waits)


def _was_done(seen: Snapshot) -> bool:
    """Whether the training was done once: with steps to go, it was amended since."""
    ends = [one.end for one in seen.attempts if one.end]
    return bool(ends) and ends[-1].outcome == "done"


def _of_stage(
    name: str, survey: Survey, job: JobStatus | None, first: StageStatus | None, *, amended: bool
) -> StageStatus:
    if job and job.state in job_status.ALIVE:
        return _by_job(name, survey, job)
    if survey.complete:
        return _complete(name, survey, first)
    # A stale unit was finished once: the end of the job that made it is no longer of interest.
    if job and (survey.counts.get("missing") or not survey.counts):
        return _by_job(name, survey, job)
    return _by_files(name, survey, first, amended=amended)


def _by_job(name: str, survey: Survey, job: JobStatus) -> StageStatus:
    """The status of a stage that is its job's."""
    unit = logs.last_named(job.log, survey.begun) if job.log else None
    return StageStatus(
        name,
        job.state,
        survey.counts,
        job.reason,
        job.since,
        unit or (survey.begun[0] if survey.begun and job.state != "queued" else None),
        job.job,
        job.log,
        logs.last_lines(job.log) if job.log else (),
        survey.faults,
        survey.waits,
        job.running,
        job.starts,
        job.ends,
        job.remedy,
    )


def _complete(name: str, survey: Survey, first: StageStatus | None) -> StageStatus:
    """The status if all units are done: stale nevertheless if an earlier stage is not done."""
    if first is None:
        return StageStatus(name, "done", survey.counts)
    reason = f"{first.name}, before it, is {first.state}"
    state: State = "done" if name == _KEEPS_ITS_INPUT else "stale"
    return StageStatus(name, state, survey.counts, reason)


def _by_files(
    name: str, survey: Survey, first: StageStatus | None, *, amended: bool
) -> StageStatus:
    """The status if nothing is known about a job; `amended`: it was done once."""
    counts = survey.counts
    untouched = first is None or first.state == "not begun"
    reason = survey.waits
    if first and first.trouble:
        reason = f"{first.name}, before it, {_ENDED_WORDS.get(first.state, f'is {first.state}')}"
    state: State = "not begun" if untouched else "waiting"
    if counts.get("broken") or (first is None and survey.waits):
        state = "broken"
    elif counts.get("stale"):
        state = "stale"
    elif counts.get("done") or amended:
        state = "incomplete"
    unit = survey.faults[0].unit if survey.faults else None
    return StageStatus(
        name, state, counts, reason, unit=unit, faults=survey.faults, waits=survey.waits
    )
