"""Exclusion of nodes on which a run has failed twice, if others can replace them.

A failure of a job on several nodes counts against each: the faulty one is not known.
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

FAILURES = 2  # of a run on a node: one may be chance
# Attempts and seconds: Slurm kills the calling shell after KillWait (30 s by default).
_TRIES, _PAUSE = 6, 0.5
_USABLE = {"idle", "mixed", "allocated", "completing", "planned", "reserved"}


@dataclass(frozen=True)
class Node:
    """A node of a partition; `kind` has its CPUs, GPUs and features, which jobs can request."""

    name: str
    usable: bool
    kind: tuple[str, ...]


def names(node_list: str) -> list[str]:
    """The nodes in Slurm's notation `mdx[1-2]`; does not ask slurmctld."""
    return state.slurm("scontrol", "show", "hostnames", node_list).split()


def choose(
    failures: Mapping[str, int], excluded: Iterable[str], partition: list[Node], needed: int
) -> list[str]:
    """Choose the nodes to exclude, by their failures, the worst first, and never one that is needed.

    A node is excluded only if `needed` usable nodes of its kind remain without it.
    """
    before = set(excluded)
    avoided = set(before)
    kinds = {node.name: node.kind for node in partition}
    for name in sorted(failures, key=lambda name: (-failures[name], name)):
        if failures[name] < FAILURES or name in avoided or name not in kinds:
            continue
        others = [
            node
            for node in partition
            if node.usable and node.kind == kinds[name] and node.name not in avoided | {name}
        ]
        if len(others) >= needed:
            avoided.add(name)
    return sorted(avoided - before)


def exclude(job_id: str, failures: Mapping[str, int], needed: int) -> list[str]:
    """Exclude nodes on which a job failed, once it is requeued; returns those excluded.

    Observed on Slurm 22.05: the job's own batch shell can set ExcNodeList, which is for pending jobs, as
    soon as `scontrol requeue` has returned, and it holds for all further starts. A node list that the
    user requested is left alone. Raises ClusterError if Slurm does not answer or refuses.
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
    """The nodes of a partition, or of several separated by commas."""
    rows = state.slurm(
        "sinfo", "--noheader", "--Node", f"--partition={partition}", "--format=%N|%T|%c|%G|%f"
    )
    nodes = {}
    for row in rows.splitlines():
        name, status, cpus, generic, features = row.split("|")
        # "down*" does not answer, "idle$" is in maintenance, "idle~" sleeps and can be woken.
        usable = status.rstrip("~#-") in _USABLE
        gpus = re.sub(r"\(S:[^)]*\)", "", generic)  # without their sockets
        nodes[name] = Node(name, usable, (cpus, gpus, features))
    return list(nodes.values())


def _update(job_id: str, change: str) -> None:
    """Run `scontrol update`, with retries while the requeue is in progress."""
    for _ in range(_TRIES):
        try:
            state.slurm("scontrol", "update", f"jobid={job_id}", change)
        except ClusterError:
            time.sleep(_PAUSE)
        else:
            return
    state.slurm("scontrol", "update", f"jobid={job_id}", change)
