"""Nodes a job stays away from: those on which a run has failed twice, where others can stand in.

A failure of a job of several nodes counts against each of them: which of them it was is not known.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.cluster import state
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FAILURES = 2  # of a run on a node: once may be chance
# Times and seconds: within KillWait (30 s by default) the shell that asks is gone.
_TRIES, _PAUSE = 6, 0.5
_USABLE = {"idle", "mixed", "allocated", "completing", "planned", "reserved"}


@dataclass(frozen=True)
class Node:
    """A node of a partition; `kind` is what a job can ask of it: CPUs, GPUs, features."""

    name: str
    usable: bool
    kind: tuple[str, ...]


def names(node_list: str) -> list[str]:
    """The nodes of a list as Slurm writes it, `mdx[1-2]`; slurmctld is not asked."""
    return state.slurm("scontrol", "show", "hostnames", node_list).split()


def choose(
    failures: Mapping[str, int], excluded: Iterable[str], partition: list[Node], needed: int
) -> list[str]:
    """Which nodes to exclude of those that failed, the worst first, and never one that is needed.

    One may go only where `needed` usable nodes of its own kind remain without it.
    """
    gone = set(excluded)
    kinds = {node.name: node.kind for node in partition}
    for name in sorted(failures, key=lambda name: (-failures[name], name)):
        if failures[name] < FAILURES or name in gone or name not in kinds:
            continue
        others = [
            node
            for node in partition
            if node.usable and node.kind == kinds[name] and node.name not in gone | {name}
        ]
        if len(others) >= needed:
            gone.add(name)
    return sorted(gone - set(excluded))


def exclude(job_id: str, failures: Mapping[str, int], needed: int) -> list[str]:
    """Keep a job that has just been requeued from nodes that failed it; returns which.

    Seen on Slurm 22.05: ExcNodeList, which is for pending jobs, is taken from the job's own batch shell
    as soon as `scontrol requeue` has returned, and holds for all further starts. A list of nodes that
    the user asked for is left alone. Raises ClusterError where Slurm does not answer or refuses.
    """
    if not any(count >= FAILURES for count in failures.values()):
        return []
    fields = state.fields(job_id)
    if fields.get("ReqNodeList", "(null)") != "(null)":
        return []
    before = fields.get("ExcNodeList", "(null)")
    excluded = [] if before == "(null)" else names(before)
    chosen = choose(failures, excluded, _of_partition(fields["Partition"]), needed)
    if chosen:
        _update(job_id, f"ExcNodeList={','.join([*excluded, *chosen])}")
    return chosen


def _of_partition(partition: str) -> list[Node]:
    """The nodes of a partition, or of several with commas between them."""
    rows = state.slurm(
        "sinfo", "--noheader", "--Node", f"--partition={partition}", "--format=%N|%T|%c|%G|%f"
    )
    found = {}
    for row in rows.splitlines():
        name, status, cpus, generic, features = row.split("|")
        # "down*" does not answer, "idle$" is in maintenance, "idle~" sleeps and can be woken.
        usable = status.rstrip("~#-") in _USABLE
        places = re.sub(r"\(S:[^)]*\)", "", generic)  # the sockets of its GPUs
        found[name] = Node(name, usable, (cpus, places, features))
    return list(found.values())


def _update(job_id: str, change: str) -> None:
    """`scontrol update`, again for a moment while the requeue is under way."""
    for _ in range(_TRIES):
        try:
            state.slurm("scontrol", "update", f"jobid={job_id}", change)
        except ClusterError:
            time.sleep(_PAUSE)
        else:
            return
    state.slurm("scontrol", "update", f"jobid={job_id}", change)
