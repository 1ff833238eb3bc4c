"""Where each stage of the relay stands: what is done of it, what became of its job, and what to do.

Pure: `of_chain` joins what the files say (a survey of units) with what became of the jobs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kit.relay import job_status, logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kit.relay.job_status import JobStatus, Submission
    from kit.store.units import Fault, Survey

State = Literal["done", "not begun", "incomplete", "waiting", "stale", "broken"] | job_status.State

_KEEPS_ITS_INPUT = "train"  # a run that has begun refuses other tokens than its own
_ENDED = {
    "failed": "failed",
    "cancelled": "was cancelled",
    "stopped": "was stopped",
    "interrupted": "was interrupted",
}


@dataclass(frozen=True)
class StageStatus:
    """Where one stage stands."""

    name: str
    state: State
    counts: Mapping[str, int]  # units that are done, missing, stale, broken; empty if not known
    reason: str | None = None
    since: float | None = None  # Unix time of the state
    unit: str | None = None  # at work or at fault
    job: str | None = None  # `job 17_1`, `process 123`
    log: Path | None = None
    tail: Sequence[str] = ()  # the last lines of the log
    faults: Sequence[Fault] = ()  # stale and broken units, the first by name
    waits: str | None = None  # why its units are not known

    @property
    def trouble(self) -> bool:
        """Whether it wants something of its user."""
        return self.state not in ("done", "not begun", "waiting", *job_status.ALIVE)

    def facts(self) -> dict[str, Any]:
        """As JSON: the counts as keys of their own, the others always there."""
        rest = {
            "state": self.state,
            "reason": self.reason,
            "since": self.since,
            "unit": self.unit,
            "job": self.job,
            "log": str(self.log) if self.log else None,
            "tail": list(self.tail),
            "faults": [asdict(fault) for fault in self.faults],
        }
        return {**self.counts, **({"waits": self.waits} if self.waits else {}), **rest}


@dataclass
class _Before:
    """What is known of the stages before one."""

    unfinished: list[str] = field(default_factory=list)
    first: StageStatus | None = None  # the first that is not done

    def add(self, standing: StageStatus) -> None:
        if standing.state != "done":
            self.unfinished.append(standing.name)
            self.first = self.first or standing


def of_chain(submission: Submission, surveys: Mapping[str, Survey]) -> list[StageStatus]:
    """Where the stages of a relay stand, in their order, from the first one on."""
    before = _Before()
    found = []
    for name, survey in surveys.items():
        became = job_status.of(submission, name, before.unfinished)
        found.append(_of_stage(name, survey, became, before.first))
        before.add(found[-1])
    return found


def _of_stage(
    name: str, survey: Survey, became: JobStatus | None, first: StageStatus | None
) -> StageStatus:
    if became and became.state in job_status.ALIVE:
        return _by_job(name, survey, became)
    if survey.complete:
        return _complete(name, survey, first)
    # What is stale was made once: how its job of old ended says nothing any more.
    if became and (survey.counts.get("missing") or not survey.counts):
        return _by_job(name, survey, became)
    return _by_files(name, survey, first)


def _by_job(name: str, survey: Survey, became: JobStatus) -> StageStatus:
    """What became of the job is what there is to say."""
    unit = logs.last_named(became.log, survey.begun) if became.log else None
    return StageStatus(
        name,
        became.state,
        survey.counts,
        became.reason,
        became.since,
        unit or (survey.begun[0] if survey.begun and became.state != "queued" else None),
        became.job,
        became.log,
        logs.last_lines(became.log) if became.log else (),
        survey.faults,
        survey.waits,
    )


def _complete(name: str, survey: Survey, first: StageStatus | None) -> StageStatus:
    """All units are done; stale all the same where a stage before is to be made again."""
    if first is None:
        return StageStatus(name, "done", survey.counts)
    reason = f"{first.name}, before it, is {first.state}"
    state: State = "done" if name == _KEEPS_ITS_INPUT else "stale"
    return StageStatus(name, state, survey.counts, reason)


def _by_files(name: str, survey: Survey, first: StageStatus | None) -> StageStatus:
    """Nothing is known of a job."""
    counts = survey.counts
    untouched = first is None or first.state == "not begun"
    reason = survey.waits
    if first and first.trouble:
        reason = f"{first.name}, before it, {_ENDED.get(first.state, f'is {first.state}')}"
    state: State = "not begun" if untouched else "waiting"
    if counts.get("broken") or (first is None and survey.waits):
        state = "broken"
    elif counts.get("stale"):
        state = "stale"
    elif counts.get("done"):
        state = "incomplete"
    unit = survey.faults[0].unit if survey.faults else None
    return StageStatus(
        name, state, counts, reason, unit=unit, faults=survey.faults, waits=survey.waits
    )
