"""What a process of this machine does for a run, on record: which jobs, when each began, how it ended."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.errors import EkidenError, Interrupted
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster
    from kit.store.paths import Run


def announce(run: Run, cluster: Cluster, jobs: Sequence[Job]) -> None:
    """Put on record what a process of this machine is to do for a run."""
    todo = [
        {
            "name": job.name,
            "module": job.work.__module__,
            "tasks": list(job.sent),
            "resources": job.resources,
        }
        for job in jobs
    ]
    here = {"cluster": cluster.name, "time": time.time(), "node": socket.gethostname()}
    write_json(run.jobs, {**here, "local": todo})


def begins(run: Run, name: str) -> None:
    """Put the beginning of a job on record."""
    found = read_json(run.jobs)
    for job in found["local"]:
        if job["name"] == name:
            job["begun"] = time.time()
    write_json(run.jobs, found)


@contextmanager
def on_record(run: Run, name: str) -> Iterator[None]:
    """Put the beginning of a job on record, and how it ended if not well, unless that is there already."""
    begins(run, name)
    began = time.time()
    try:
        yield
    except BaseException as error:
        decided = (row for row in decisions.recorded(run) if row["time"] >= began)
        if not any(row["name"] == name and not row["requeued"] for row in decided):
            decision = decisions.Decision(False, _reason(error))
            decisions.record(run, f"{name}-{os.getpid()}.0", name, decision)
        raise


def _reason(error: BaseException) -> str:
    if isinstance(error, Interrupted) or not isinstance(error, Exception):  # by a signal
        return decisions.CANCELLED
    return str(error) if isinstance(error, EkidenError) else f"failed ({error!r:.200})"
