"""Tasks as the supervisor of this machine starts them: the command and environment of each rank."""

from __future__ import annotations

import os
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.cluster import task as program
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.cluster.jobs import Job
    from kit.store.paths import Run

SUPERVISOR = uuid.uuid4().hex[:8]  # makes tokens unique across starts and machines


@dataclass(frozen=True)
class LocalTask:
    """One rank of a local job: its command, log and environment."""

    folder: Path
    log: Path
    token: str  # see `jobs.token`
    command: list[str]  # runs it in a process of its own
    environment: dict[str, str]


def announce(run: Run, job: Job) -> None:
    """Record the work of a job's tasks, for `of_job`."""
    if not program.known_to(run):
        from kit.cluster import launch

        run.local_work(job.name).unlink(missing_ok=True)
        launch.pickle_tasks(run, job)
        return
    work = program.Work.of(job)
    write_json(run.local_work(job.name), {"function": work.function, "tasks": work.tasks})


def of_job(
    run: Run, job_id: str, rank: int, ranks: int, restarts: int, more: Mapping[str, str] = {}
) -> LocalTask:
    """One rank of the job `job_id`, NAME-TASK; `more` are additional environment variables."""
    name, number = job_id.rsplit("-", 1)
    folder = run.job_logs(name)
    token = f"{job_id}-{SUPERVISOR}.{restarts}"
    environment = {
        "EKIDEN_LOCAL_JOB": token,
        "EKIDEN_SUPERVISOR": str(os.getpid()),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "EKIDEN_NODES": "1",
        **more,
    }
    log = folder / f"{job_id}_{rank}_log.out"
    announced = run.local_work(name)
    if not announced.is_file():
        module, words = "submitit.core._submit", [str(folder)]
        environment |= _of_submitit(job_id, rank, ranks)
    else:
        work = read_json(announced)
        only = program.Work(work["function"], work["tasks"], [int(number)])
        module, words = program.MODULE, only.words(run, name)
        environment[program.WORDS] = "\n".join(words)
    command = [sys.executable, "-u", "-m", module, *words]
    return LocalTask(folder, log, token, command, environment)


def _of_submitit(job_id: str, rank: int, ranks: int) -> dict[str, str]:
    """The variables that submitit reads, for a run with code that began earlier."""
    return {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": job_id,
        "SUBMITIT_LOCAL_NTASKS": str(ranks),
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_GLOBALID": str(rank),
        "SUBMITIT_LOCAL_LOCALID": str(rank),
    }
