"""Stages as jobs: their work, tasks and resources; jobs that were submitted, and jobs that are alive."""

from __future__ import annotations

import os
import pkgutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from kit.cluster import state
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kit.store.paths import Run

    Work = Callable[[Run, int, int], None]


class WorkOf:
    """The function `work` of a module, which is imported when it is called."""

    def __init__(self, module: str) -> None:
        self.__module__, self.__qualname__ = module, "work"

    def __call__(self, run: Run, task: int, tasks: int) -> None:
        """Import the module, and do the work of a task."""
        pkgutil.resolve_name(f"{self.__module__}:{self.__qualname__}")(run, task, tasks)


Verb = Literal["run", "submit"]  # by which a user starts jobs: in the foreground, or on the cluster

RESOURCES = "EKIDEN_RESOURCES"  # names a Slurm job's section of the cluster file, for the exit trap


@dataclass(frozen=True)
class Job:
    """A stage as a job, and the section of the cluster file with its resources."""

    name: str
    work: Work
    tasks: int = 1
    resources: Literal["network", "arrays", "single", "training"] = "single"
    missing: tuple[int, ...] | None = None  # positions of the units to make; None: all
    title: str | None = None  # in the queue; None: the names of run and job
    starts_ranks: bool = False  # one process, in the batch shell's place, which starts them by srun

    @property
    def task_numbers(self) -> Sequence[int]:
        """The numbers of the tasks to submit: those with units to make."""
        if self.missing is None:
            return range(self.tasks)
        return sorted({unit % self.tasks for unit in self.missing})


@dataclass(frozen=True)
class Alive:
    """A job or process of a run that is queued or running."""

    job: str  # its id, as `cancel` takes it
    who: str  # `job 17`, `process 123`
    words: str  # for status: `job 17 running`
    remedy: str  # the command that ends it
    state: str  # RUNNING, PENDING, or what a process is
    stages: tuple[str, ...] = ()  # that it works on or will
    plain: bool = False  # of a plain script: jobs behind it may be queued that nobody knows of
    failed: Sequence[str] = ()  # tasks of the array that ended badly, as Slurm names them


@dataclass(frozen=True)
class Ended:
    """A job that `cancel` has ended."""

    name: str | None  # the stage; None if the process works for no stage, such as a submission
    job: str  # `job 17`, `process 123`
    before: str  # `running`, `queued`, of an array `3 tasks running, others queued`


@dataclass(frozen=True)
class Sent:
    """A submission: jobs with an id each, or one process that runs them all."""

    jobs: Mapping[str, str]  # ids by name
    process: int | None = None
    log: Path | None = None  # of the process
    notes: Sequence[str] = ()  # on jobs that differ from what was asked for

    def lines(self, title: str) -> list[str]:
        """Lines to print; `title` names the work of a single process."""
        if self.process is not None:
            return [f"{title}: process {self.process} is running; see {self.log}"]
        return [*self.notes, *(f"{name}: job {job}" for name, job in self.jobs.items())]


class SentJob(TypedDict):
    """The last submission of a stage, in `jobs.json`; it outlives later submissions of other stages."""

    time: float  # Unix
    uid: NotRequired[int]  # the user whose job it is; not recorded by earlier versions
    plain: NotRequired[bool]  # by a plain script of sbatch/
    first: NotRequired[str]  # the id that it got then; that of a successor is higher


def sent(run: Run) -> dict[str, SentJob]:
    """The last submission of each stage, by name."""
    if not run.jobs.is_file():
        return {}
    record = read_json(run.jobs)
    names = [*record.get("slurm", {}), *(job["name"] for job in record.get("local", ()))]
    of_this: dict[str, SentJob] = {name: {"time": record.get("time", 0.0)} for name in names}
    of_all: dict[str, SentJob] = of_this | record.get("sent", {})
    return of_all


def clear_previous_outcome(run: Run, jobs: Sequence[Job]) -> None:
    """Remove the mistakes of the previous submission and the user's STOP file."""
    for job in jobs:
        run.mistake(job.name).unlink(missing_ok=True)
        if job.resources == "training":
            run.stop.unlink(missing_ok=True)


def user_signal(run: Run) -> signal.Signals:
    """The signal that tells the ranks to save because their user cancels the run: SIGINT.

    Code of earlier versions, which a run that has begun keeps, knows only SIGTERM.
    """
    own = run.code / "kit/training/interruption.py"
    knows = own.is_file() and "signal.SIGINT" in own.read_text(encoding="utf-8")
    return signal.SIGINT if knows else signal.SIGTERM


def restarts() -> int:
    """The number of requeues before this start of the job on Slurm."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def token() -> str:
    """The id of this start of the job, `ID.RESTARTS`: the same on all ranks, different after a requeue."""
    if "SLURM_JOB_ID" in os.environ:
        return f"{state.own_id()}.{restarts()}"
    return os.environ["EKIDEN_LOCAL_JOB"]
