"""A training job that is already in the queue or at work, and an amendment of its cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.cluster import local, slurm, state
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.store.paths import Run

# What Slurm may change of a job that it has.
_FIELDS = {"cluster.training.partition": "Partition", "cluster.training.minutes": "TimeLimit"}
# What a job is given at its submission; everything else is read when an attempt begins.
_GIVEN = (
    "cluster.training.partition", "cluster.training.minutes", "cluster.training.nodes",
    "cluster.training.ranks_per_node", "cluster.training.gpus_per_node",
    "cluster.training.cpus_per_rank", "cluster.training.memory_gb",
    "cluster.training.warning_seconds", "cluster.environment", "cluster.setup", "cluster.sbatch",
)  # fmt: skip
_OF_OTHERS = ("cluster.arrays.", "cluster.single.")  # jobs that are not the training


def apply(run: Run, changes: Mapping[str, Any]) -> list[str]:
    """Bring amended keys to the training job that is alive; returns what there is to say, in lines.

    Slurm is asked to change partition and time limit. It may refuse, as it does of a running job.
    """
    if not changes:
        return []
    try:
        job = _slurm_job(run)
    except ClusterError as error:
        return [f"whether a job of this run is alive is not known ({error})"]
    kept = [key for key in changes if key in _GIVEN]
    lines = []
    if job is not None:
        who, remedy = f"job {job}", f"scancel {job}"
        for key in [key for key in kept if key in _FIELDS and changes[key] is not None]:
            wanted = f"{_FIELDS[key]}={changes[key]}"
            try:
                state.slurm("scontrol", "update", f"jobid={job}", wanted)
            except ClusterError as error:
                lines.append(f"{who}: Slurm refuses {wanted} ({error})")
            else:
                lines.append(f"{who}: Slurm has {wanted}")
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
    if later := [key for key in changes if key not in _GIVEN and not key.startswith(_OF_OTHERS)]:
        lines.append(
            f"{who} goes by the new {', '.join(later)} from its next attempt on; sooner: {remedy}, which "
            "saves, then submit again"
        )
    return lines


def _slurm_job(run: Run) -> str | None:
    """The id of the run's training job, if Slurm has it still to run or is running it."""
    job = slurm.submitted(run).get("train")
    return job if job in slurm.live(run) else None
