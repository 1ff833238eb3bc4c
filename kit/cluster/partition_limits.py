"""Limits of a Slurm cluster that jobs must keep: partitions, nodes, time limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster import state
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster, TaskResources, TrainingResources

_REMEDIES = {  # against an array that is too large
    "download": "give fewer corpus.sources",
    "fingerprint": "lower corpus.tasks",
    "deduplicate": "lower corpus.tasks",
    "signatures": "lower corpus.tasks",
    "bands": "lower corpus.tasks",
    "preprocess": "lower corpus.tasks",
    "count": "lower tokenizer.tasks",
    "candidates": "give fewer tokenizer.candidates",
    "tokenize": "lower tokens.tasks",
}
# Options of sbatch that replace the limits of the cluster file's partition by others.
_OVERRIDING_OPTIONS = {"partition", "time", "clusters", "qos", "reservation"}


def problems(cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line for each limit that the jobs exceed; nothing if Slurm's limits are unknown."""
    if not jobs:
        return
    if any(job.resources == "training" for job in jobs):
        yield from _warning_problems(cluster)
    try:
        partitions = state.partitions()
    except ClusterError:  # reported elsewhere, if Slurm is needed
        return
    limited = [j for j in jobs if not _OVERRIDING_OPTIONS & {*cluster.sbatch_of(j.resources)}]
    for key, resources in _resources(cluster, limited).items() if partitions else ():
        yield from _partition_problems(key, resources, partitions)


def remedy(job: Job) -> str | None:
    """What makes the array of a job smaller; None if it is no array."""
    return _REMEDIES.get(job.name) if len(job.task_numbers) > 1 else None


def _resources(
    cluster: Cluster, jobs: Sequence[Job]
) -> dict[str, TaskResources | TrainingResources]:
    """The resources of the jobs, by their section of the cluster file."""
    sections: dict[str, TaskResources | TrainingResources] = {}
    for job in jobs:
        if job.resources == "training":
            sections["cluster.training"] = cluster.training
        else:
            network = job.resources == "network" and cluster.network is None
            name = "arrays" if network else job.resources
            sections[f"cluster.{name}"] = cluster.resources_of(job.resources)
    return sections


def _partition_problems(
    key: str,
    resources: TaskResources | TrainingResources,
    partitions: Mapping[str, Mapping[str, str]],
) -> Iterator[str]:
    """A missing partition, or one with a shorter limit or fewer nodes; of several the widest counts."""
    default = [name for name, row in partitions.items() if row.get("Default") == "YES"]
    names = resources.partition.split(",") if resources.partition else default
    if unknown := [name for name in names if name not in partitions]:
        yield (
            f"{key}.partition={unknown[0]}: Slurm has no such partition; available: "
            f"{', '.join(sorted(partitions))}"
        )
        return
    rows = [partitions[name] for name in names]
    longest = max((state.minutes(row.get("MaxTime", "UNLIMITED")) for row in rows), default=None)
    if longest is not None and resources.minutes > longest:
        yield (
            f"{key}.minutes={resources.minutes}: partition {','.join(names)} has a limit of "
            f"{longest:.0f} minutes (MaxTime), so the job would never start; lower it"
        )
    nodes = getattr(resources, "nodes", 1)
    available = max((int(row.get("TotalNodes", nodes)) for row in rows), default=nodes)
    if nodes > available:
        yield f"{key}.nodes={nodes}: partition {','.join(names)} has {available} nodes; lower it"


def _warning_problems(cluster: Cluster) -> Iterator[str]:
    """A warning of the time limit that would come as soon as the job starts."""
    training = cluster.training
    if training.warning_seconds >= 60 * training.minutes:
        yield (
            f"cluster.training.warning_seconds={training.warning_seconds}: the time limit is "
            f"cluster.training.minutes={training.minutes}, so each attempt would end as it begins; lower "
            "the first or raise the second"
        )
