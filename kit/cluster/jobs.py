"""Stages as jobs: what is to be done, in how many tasks, and what each gets; what is sent, and alive."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kit.cluster import state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kit.store.paths import Run

    Work = Callable[[Run, int, int], None]


RESOURCES = "EKIDEN_RESOURCES"  # of a Slurm job: the section of the cluster file, for the exit trap


@dataclass(frozen=True)
class Job:
    """A stage as a job, and the section of the cluster file that says what it gets."""

    name: str
    work: Work
    tasks: int = 1
    resources: Literal["network", "arrays", "single", "training"] = "single"
    needed: tuple[int, ...] | None = None  # the tasks to send; None: all
    title: str | None = None  # in the queue; None: the names of run and job

    @property
    def sent(self) -> Sequence[int]:
        """The numbers of the tasks to send."""
        return range(self.tasks) if self.needed is None else self.needed


@dataclass(frozen=True)
class Alive:
    """What of a run is still to run, or running."""

    job: str  # its id, as `cancel` takes it
    who: str  # `job 17`, `process 123`
    words: str  # what to say of it: `job 17 running`
    remedy: str  # what ends it, to be typed


@dataclass(frozen=True)
class Sent:
    """What was submitted: jobs with ids of their own, or one process that does them all."""

    jobs: Mapping[str, str]  # ids by name
    process: int | None = None
    log: Path | None = None  # of the process

    def lines(self, title: str) -> list[str]:
        """What to say of it; `title`: of what one process does."""
        if self.process is not None:
            return [f"{title}: process {self.process} is at work; see {self.log}"]
        return [f"{name}: job {job}" for name, job in self.jobs.items()]


def clear_previous_outcome(run: Run, jobs: Sequence[Job]) -> None:
    """A new submission starts without the mistakes of the one before, and without the user's STOP."""
    for job in jobs:
        run.mistake(job.name).unlink(missing_ok=True)
        if job.resources == "training":
            run.stop.unlink(missing_ok=True)


def token() -> str:
    """This start of this job, `ID.RESTARTS`: the same on all ranks, another after a requeue."""
    if "SLURM_JOB_ID" in os.environ:
        return f"{state.own_id()}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return os.environ["EKIDEN_LOCAL_JOB"]
