"""Amendments of the cluster, applied to a training job that is already queued or running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.cluster import local, slurm_queue, state
from kit.config.amendments import is_in
from kit.errors import ClusterError
from kit.output import quantities
from kit.run import kept_code, time_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.store.paths import Run

# What Slurm can change for a submitted job.
_LIMIT = "cluster.training.minutes"
_FIELDS = {"cluster.training.partition": "Partition", _LIMIT: "TimeLimit"}
# In the script of the job, also after a requeue. Everything else is read when an attempt begins.
_FIXED_AT_SUBMISSION = (
    "cluster.training.partition", "cluster.training.minutes", "cluster.training.nodes",
    "cluster.training.ranks_per_node", "cluster.training.gpus_per_node",
    "cluster.training.cpus_per_rank", "cluster.training.memory_gb",
    "cluster.training.warning_seconds", "cluster.training.sbatch", "cluster.environment",
    "cluster.setup", "cluster.sbatch", "cluster.srun", "cluster.training.srun", "cluster.python",
    "cluster.container", "cluster.container.",
)  # fmt: skip
_OTHER_JOBS = ("cluster.network", "cluster.network.", "cluster.arrays.", "cluster.single.")


def apply(run: Run, changes: Mapping[str, Any]) -> list[str]:
    """Apply amended keys to the run's live training job; returns lines to print.

    Slurm is asked to change partition and time limit. It may refuse, as for a running job.
    """
    if not changes:
        return []
    try:
        job = _slurm_job(run)
    except ClusterError as error:
        return [f"cannot tell whether a job of this run is queued or running ({error})"]
    kept = [key for key in changes if is_in(key, _FIXED_AT_SUBMISSION)]
    lines = []
    if job is not None:
        who, remedy = f"job {job}", f"scancel {job}"
        for key in [key for key in kept if key in _FIELDS and changes[key] is not None]:
            change = f"{_FIELDS[key]}={changes[key]}"
            try:
                state.slurm("scontrol", "update", f"jobid={job}", change)
            except ClusterError as error:
                lines.append(f"{who}: Slurm refuses {change} ({error}){_who_may(key, job, change)}")
            else:
                lines.append(f"{who}: Slurm has {change}{_when(run, key, job)}")
                kept.remove(key)
    elif supervisor := local.alive(run):
        who, remedy = supervisor[0].who, supervisor[0].remedy
    else:
        return []
    if kept:
        lines.append(
            f"{who} keeps the {', '.join(kept)} that it was submitted with; to change that: {remedy}, "
            "which saves, then submit again"
        )
    elsewhere = (*_FIXED_AT_SUBMISSION, *_OTHER_JOBS)
    if later := [key for key in changes if not is_in(key, elsewhere)]:
        lines.append(
            f"{who} uses the new {', '.join(later)} from its next attempt on; to apply it now: {remedy}, "
            "which saves, then submit again"
        )
    return lines


def _who_may(key: str, job: str, change: str) -> str:
    """A user may shorten the limit of a running job; an administrator may also extend it."""
    return f"; an administrator can: scontrol update jobid={job} {change}" if key == _LIMIT else ""


def _when(run: Run, key: str, job: str) -> str:
    """When the training takes note of a new time limit."""
    if key != _LIMIT or state.fields(job).get("JobState") != "RUNNING":
        return ""
    if not kept_code.has(run, "kit/run/time_limit.py"):
        return "; the attempt in progress ends at its old limit, the next one has the new"
    return f"; the training takes note of it within {quantities.duration(time_limit.USUALLY)}"


def _slurm_job(run: Run) -> str | None:
    """The id of the run's training job, if it is queued or running on Slurm."""
    job = slurm_queue.submitted(run).get("train")
    return job if job in slurm_queue.live(run) else None
