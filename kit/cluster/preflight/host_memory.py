"""The memory of a node: that of the plan, against that of the node and of the job.

A job that needs more is killed by the kernel without a word, perhaps in its first save: so the sum is made
before (kit/plan/host.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kit.cluster import memory_groups
from kit.cluster.memory_groups import CGROUPS, PROC, Limit
from kit.cluster.preflight.finding import Finding, NotChecked, warning
from kit.output import program
from kit.output.quantities import size
from kit.plan import host, shape
from kit.plan.fit import SLURM_GB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.cluster.preflight.finding import Site
    from kit.config.cluster import Cluster


def host_memory(site: Site) -> Finding:
    """Whether training fits into the memory of a node, by the plan."""
    limit = lowest(site.cluster)
    if limit is None:
        raise NotChecked("needs a node, or cluster.training.memory_gb")
    needed = host.total(
        host.parts(shape.setup(site.recipe, site.cluster), site.cluster.training.ranks_per_node)
    )
    found = f"{size(needed)} needed (computed) of {size(limit.bytes)}: {limit.source}"
    if needed > limit.bytes:
        remedy = (
            "raise cluster.training.memory_gb, or lower ranks_per_node; "
            f"{program.command('plan')} has the parts"
        )
        return Finding("host_memory", "bad", found, remedy)
    free = available() if _is_here(site.cluster) else None
    if free is not None and needed > free:
        text = f"{found}; {size(free)} available now"
        return warning("host_memory", text, "see who uses the rest of it")
    return Finding("host_memory", "ok", found)


def lowest(cluster: Cluster, proc: Path = PROC, cgroups: Path = CGROUPS) -> Limit | None:
    """The lowest limit that is known here: on a login node only that asked of Slurm."""
    return min(_limits(cluster, proc, cgroups), default=None)


def available(proc: Path = PROC) -> float | None:
    """Bytes that are free, or would be if the kernel dropped its caches; None if it does not tell."""
    return _meminfo(proc).get("MemAvailable")


def _is_here(cluster: Cluster) -> bool:
    """Whether this machine is a node of the training."""
    return cluster.is_this_machine or "SLURM_JOB_ID" in os.environ


def _limits(cluster: Cluster, proc: Path, cgroups: Path) -> Iterator[Limit]:
    training = cluster.training
    replaced = cluster.is_this_machine or cluster.replaced("training", "memory_gb") is not None
    if training.memory_gb is not None and not replaced:
        yield Limit(training.memory_gb * SLURM_GB, "cluster.training.memory_gb")
    if not _is_here(cluster):
        return
    if (whole := _meminfo(proc).get("MemTotal")) is not None:
        yield Limit(whole, "this node's")
    if asked := os.environ.get("SLURM_MEM_PER_NODE", ""):
        yield Limit(int(asked) * 1024.0**2, "the job's, by SLURM_MEM_PER_NODE")
    yield from memory_groups.limits(proc, cgroups)


def _meminfo(proc: Path) -> dict[str, float]:
    """Sizes of proc_meminfo(5), in bytes."""
    try:
        lines = (proc / "meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024.0 for words in pairs if len(words) == 3}
