"""Record of a process of this machine that works on a run: its jobs, when each began, how it ended."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from kit.cluster import decisions
from kit.cluster.jobs import sent as jobs_sent
from kit.errors import EkidenError, Interrupted
from kit.output import log
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.cluster.jobs import Job, Verb
    from kit.config.cluster import Cluster
    from kit.store.paths import Run


class LocalJob(TypedDict):
    """A job in `jobs.json` that a process of this machine runs."""

    name: str
    module: str
    tasks: list[int]
    resources: Literal["network", "arrays", "single", "training"]
    begun: NotRequired[float]  # Unix time
    running: NotRequired[int]  # tasks of an array that is running
    queued: NotRequired[int]
    ends: NotRequired[float]  # Unix time of the time limit, of the training


def announce(run: Run, cluster: Cluster, jobs: Sequence[Job], verb: Verb = "submit") -> None:
    """Record the jobs that a process of this machine will run, and the verb that started it."""
    local: list[LocalJob] = [
        {
            "name": job.name,
            "module": job.work.__module__,
            "tasks": list(job.task_numbers),
            "resources": job.resources,
        }
        for job in jobs
    ]
    now = time.time()
    sent = jobs_sent(run) | {job.name: {"time": now} for job in jobs}
    here = {"cluster": cluster.name, "time": now, "node": socket.gethostname(), "sent": sent}
    write_json(run.jobs, {**here, "verb": verb, "local": local})


def local_jobs(run: Run) -> list[LocalJob]:
    """The jobs that were announced last."""
    jobs: list[LocalJob] = read_json(run.jobs)["local"]
    return jobs


def stages_left(run: Run) -> list[str]:
    """The job that was begun last, and those after it; empty if none was announced."""
    jobs: list[LocalJob] = read_json(run.jobs).get("local", []) if run.jobs.is_file() else []
    present = max((number for number, job in enumerate(jobs) if "begun" in job), default=0)
    return [job["name"] for job in jobs[present:]]


def failed_tasks(run: Run) -> list[str]:
    """The tasks, NAME-TASK, that have failed for good since the jobs were announced."""
    since = read_json(run.jobs).get("time", 0.0) if run.jobs.is_file() else 0.0
    return [
        row["job"].rsplit("-", 1)[0]
        for row in decisions.read(run)
        if row["time"] > since and row["name"] != "train" and not row["requeued"]
    ]


def record_start(run: Run, name: str) -> None:
    """Record that a job begins."""
    _record(run, name, {"begun": time.time()})


def record_tasks(run: Run, name: str, running: int, queued: int) -> None:
    """Record how many tasks of an array run, and how many wait."""
    _record(run, name, {"running": running, "queued": queued})


def record_end(run: Run, name: str, ends: float) -> None:
    """Record when the time limit of an attempt ends, as Unix time."""
    _record(run, name, {"ends": ends})


def end_of(run: Run, name: str) -> float | None:
    """The same; None if it is not known."""
    return next((job.get("ends") for job in local_jobs(run) if job["name"] == name), None)


def _record(run: Run, name: str, facts: dict[str, float]) -> None:
    record = read_json(run.jobs)
    for job in record["local"]:
        if job["name"] == name:
            job.update(facts)
    try:
        write_json(run.jobs, record)
    except OSError as error:  # it is for `status`: a full disk ends no job for it
        log.warning(f"{run.jobs}: not written ({error.strerror})")


@contextmanager
def on_record(run: Run, name: str) -> Iterator[None]:
    """Record that a job begins, and how it ends if it fails, unless that is on record already."""
    record_start(run, name)
    began = time.time()
    try:
        yield
    except BaseException as error:
        recent = (row for row in decisions.read(run) if row["time"] >= began)
        if not any(row["name"] == name and not row["requeued"] for row in recent):
            decision = decisions.Decision(False, _reason(error))
            decisions.record(run, f"{name}-{os.getpid()}.0", name, decision)
        raise


def _reason(error: BaseException) -> str:
    if isinstance(error, Interrupted) or not isinstance(error, Exception):  # a signal
        return decisions.CANCELLED
    return str(error) if isinstance(error, EkidenError) else f"failed ({error!r:.200})"
