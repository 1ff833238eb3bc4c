"""Paths of what jobs leave in a run directory: scripts, logs, and small records beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class JobFiles:
    """The files of a run's jobs."""

    root: Path  # the run directory

    @property
    def submissions(self) -> Path:
        """The scripts of jobs, and the logs of all tasks."""
        return self.root / "logs"

    def job_logs(self, job: str) -> Path:
        """The subfolder of `submissions` for one job."""
        return self.submissions / job

    def job_times(self, job: str, token: str) -> Path:
        """When a start of a job was submitted and started, as Slurm has it."""
        return self.job_logs(job) / f"times-{token}.json"

    def submitted_tasks(self, job: str, job_id: str) -> Path:
        """The tasks of one submission of a job to Slurm."""
        return self.job_logs(job) / f"{job_id}_tasks.json"

    def task_done(self, job: str, task: str) -> Path:
        """Exists once a task on Slurm, ID or ARRAY_INDEX, has succeeded."""
        return self.job_logs(job) / f"{task}_done"

    def local_work(self, job: str) -> Path:
        """The work of the tasks of a job on this machine."""
        return self.job_logs(job) / "work.json"

    def successor(self, job: str, token: str) -> Path:
        """The id of the job that follows a start of a job that could not be requeued."""
        return self.job_logs(job) / f"successor-{token}"

    def preflight(self, job: str, token: str, node: str) -> Path:
        """The checks of a node before a start of a job; moved to its attempt once that begins."""
        return self.job_logs(job) / f"preflight-{token}-{node}.json"

    def preflights(self, job: str, token: str) -> list[Path]:
        """The same of all nodes, as far as they are there."""
        return sorted(self.job_logs(job).glob(f"preflight-{token}-*.json"))

    def mistake(self, job: str) -> Path:
        """The user's mistake that ended a job; such a job is not retried."""
        return self.job_logs(job) / "failure.json"

    @property
    def supervisor_log(self) -> Path:
        """The log of the supervisor in the background."""
        return self.submissions / "supervisor.log"

    @property
    def forkserver_log(self) -> Path:
        """The log of the process from which local tasks are forked."""
        return self.submissions / "forkserver.log"
