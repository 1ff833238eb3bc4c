"""Submission of an acceptance as a job of Slurm, with the options of a training job of the cluster file.

prepared = submission.prepare(project, steps=100)
submission.show(submission.submit(prepared))
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster import launch, scheduler
from kit.cluster.jobs import Job
from kit.config.run import Project
from kit.errors import ConfigError
from kit.relay import submit_checks
from kit.relay.acceptance import job as of_job
from kit.relay.acceptance import trials, verdicts
from kit.run import directory
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from kit.config.cluster import Cluster

_MINUTES = 60  # of the time limit: a short job starts sooner, and a slow site is not cut off
_NODES = 2  # at most: more would show nothing else


@dataclass(frozen=True)
class Prepared:
    """A job that can be submitted; nothing is written yet."""

    project: Project  # whose run is the folder of the report
    job: Job
    steps: int

    @property
    def script(self) -> str:
        """The script, as sbatch would get it."""
        return launch.script(self.project.run, self.project.cluster, self.job, [])


def submits(project: Project, *, here: bool) -> bool:
    """Whether a job is submitted. Raises ConfigError if --here has no effect."""
    if project.cluster.is_this_machine and here:
        raise ConfigError(
            f"--here: cluster {project.cluster.name} is this machine already; leave it out"
        )
    return not (project.cluster.is_this_machine or here)


def prepare(project: Project, steps: int) -> Prepared:
    """The job. Raises ConfigError for mistakes that its trials would meet, and for a limit of Slurm."""
    recipe, cluster = project.recipe, _short(project.cluster)
    run = Workspace(Path(recipe.workspace)).acceptance(recipe.name)
    job = Job(
        of_job.NAME,
        of_job.work,
        resources="training",
        title=f"{recipe.name}-{of_job.NAME}",
        starts_ranks=True,
    )
    training = recipe.training.model_copy(update={"epochs": None, **trials.settings(steps)})
    tried = Project(
        run, recipe.model_copy(update={"training": training}), trials.on_nodes(cluster, 1)
    )
    submit_checks.check(tried, [job])
    return Prepared(Project(run, recipe, cluster), job, steps)


def submit(prepared: Prepared) -> dict[str, Any]:
    """Submit it, in place of an earlier acceptance; returns the id of the job, its log and its report.

    Raises RunError while an earlier one is queued or running, ClusterError if Slurm refuses.
    """
    project = prepared.project
    run, cluster = project.run, project.cluster
    queue = scheduler.for_cluster(cluster)
    queue.check(cluster)
    scheduler.ensure_idle(run)
    shutil.rmtree(run.root, ignore_errors=True)

    def lay_out() -> None:
        directory.lay_out(project)
        of_job.request(run, prepared.steps)

    (number,) = queue.submit(run, cluster, [prepared.job], lay_out).jobs.values()
    return {
        "job": number,
        "log": str(run.job_logs(of_job.NAME) / f"{number}_0_log.out"),
        "report": str(run.root / verdicts.PAGE),
    }


def show(facts: dict[str, Any]) -> None:
    """Print the job, how to follow it, and where the report will be."""
    print(f"acceptance: job {facts['job']}")
    print(f"to follow it: tail -F {facts['log']}")
    print(f"report, once it has ended: {facts['report']}")


def _short(cluster: Cluster) -> Cluster:
    """The cluster with two nodes at most and a short time limit."""
    training = cluster.training
    changes = {"nodes": min(training.nodes, _NODES), "minutes": min(training.minutes, _MINUTES)}
    return cluster.model_copy(update={"training": training.model_copy(update=changes)})
