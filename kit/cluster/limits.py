"""What a Slurm cluster's own limits make impossible: an array, a partition, a time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster import state
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster, TaskResources, TrainingResources

_LOWER = {  # what makes an array smaller
    "download": "give fewer corpus.sources",
    "fingerprint": "lower corpus.tasks",
    "deduplicate": "lower corpus.tasks",
    "preprocess": "lower corpus.tasks",
    "count": "lower tokenizer.tasks",
    "candidates": "give fewer tokenizer.candidates",
    "tokenize": "lower tokens.tasks",
}
# Options of sbatch by which other limits hold than those of the partition that the cluster file names.
_ELSEWHERE = {"partition", "time", "clusters", "qos", "reservation"}


def problems(cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
    """A line for each limit that jobs do not keep to; none where Slurm does not say what they are."""
    if not jobs:
        return
    if any(job.resources == "training" for job in jobs):
        yield from _of_warning(cluster)
    try:
        most, partitions = state.max_array_size(), state.partitions()
    except ClusterError:  # where Slurm is needed, its absence is told
        return
    for job in jobs:
        if most is not None and job.resources != "training" and len(job.sent) > most:
            yield (
                f"cluster {cluster.name}: {job.name} would be an array of {len(job.sent)} tasks, and Slurm "
                f"takes {most} at most (MaxArraySize); {_LOWER[job.name]}"
            )
    if partitions and not _ELSEWHERE & {*cluster.sbatch}:
        for key, resources in _resources(cluster, jobs).items():
            yield from _of_partition(key, resources, partitions)


def _resources(
    cluster: Cluster, jobs: Sequence[Job]
) -> dict[str, TaskResources | TrainingResources]:
    """What the jobs get, by the section that says so."""
    found: dict[str, TaskResources | TrainingResources] = {}
    for job in jobs:
        if job.resources == "training":
            found["cluster.training"] = cluster.training
        else:
            network = job.resources == "network" and cluster.network is None
            name = "arrays" if network else job.resources
            found[f"cluster.{name}"] = cluster.resources_of(job.resources)
    return found


def _of_partition(
    key: str,
    resources: TaskResources | TrainingResources,
    partitions: Mapping[str, Mapping[str, str]],
) -> Iterator[str]:
    """A partition that is not there, or has shorter limits or fewer nodes; of several the widest counts."""
    default = [name for name, row in partitions.items() if row.get("Default") == "YES"]
    names = resources.partition.split(",") if resources.partition else default
    if unknown := [name for name in names if name not in partitions]:
        yield (
            f"{key}.partition={unknown[0]}: Slurm has no such partition; there are "
            f"{', '.join(sorted(partitions))}"
        )
        return
    rows = [partitions[name] for name in names]
    longest = max((state.minutes(row.get("MaxTime", "UNLIMITED")) for row in rows), default=None)
    if longest is not None and resources.minutes > longest:
        yield (
            f"{key}.minutes={resources.minutes}: partition {','.join(names)} has a limit of "
            f"{longest:.0f} minutes (MaxTime), and the job would never start; lower it"
        )
    nodes = getattr(resources, "nodes", 1)
    there = max((int(row.get("TotalNodes", nodes)) for row in rows), default=nodes)
    if nodes > there:
        yield f"{key}.nodes={nodes}: partition {','.join(names)} has {there} nodes; give no more"


def _of_warning(cluster: Cluster) -> Iterator[str]:
    """A warning before the time limit that comes at the start."""
    training = cluster.training
    if training.warning_seconds >= 60 * training.minutes:
        yield (
            f"cluster.training.warning_seconds={training.warning_seconds}: the time limit is "
            f"cluster.training.minutes={training.minutes}, and each attempt would end as it begins; lower "
            "the one, or raise the other"
        )
