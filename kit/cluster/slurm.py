"""Slurm as a scheduler: submits through submitit, and uses Slurm's own commands (kit/cluster/state.py).

The interface is in kit/cluster/scheduler.py. The exit trap imports this module: functions that need
submitit, which is slow, import it themselves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kit.cluster import nodes, preemption, slurm_queue
from kit.cluster import state as ask
from kit.cluster.patience import until_answered
from kit.errors import ClusterError
from kit.output import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kit.cluster.arrays import Fit
    from kit.cluster.jobs import Alive, Ended, Job, Sent
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

own_id = ask.own_id
ensure_idle, alive = slurm_queue.ensure_idle, slurm_queue.alive
queue, cancel = slurm_queue.queue, slurm_queue.cancel


def check(cluster: Cluster) -> None:
    """Raise ClusterError if Slurm is not available."""
    try:
        ask.answers()
    except ClusterError as error:
        raise ClusterError(f"cluster {cluster.name}: {error}") from None


def problems(cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line for each limit that the jobs exceed; nothing if Slurm's limits are unknown."""
    from kit.cluster import partition_limits

    yield from partition_limits.problems(cluster, jobs)


def submit(
    run: Run,
    cluster: Cluster,
    jobs: Sequence[Job],
    lay_out: Callable[[], object],
    behind: Sequence[Alive] = (),
) -> Sent:
    """Submit jobs as one chain: see kit/cluster/slurm_submit.py."""
    from kit.cluster import slurm_submit

    return slurm_submit.submit(run, cluster, jobs, lay_out, behind)


def fitted(cluster: Cluster, jobs: Sequence[Job]) -> Fit:
    """The jobs as Slurm's limits allow them, as far as it tells them. Raises QueueLimit."""
    from kit.cluster import slurm_submit

    return slurm_submit.fitted(cluster, jobs)


def scripts(
    run: Run, cluster: Cluster, jobs: Sequence[Job], behind: Sequence[Alive] = ()
) -> dict[str, str]:
    """The scripts that `submit` would send, by job."""
    from kit.cluster import slurm_submit

    return slurm_submit.scripts(run, cluster, jobs, behind)


def end(
    run: Run, names: Sequence[str], behind: Sequence[str], say: Callable[[str], None]
) -> list[Ended]:
    """End jobs of the last submission: see kit/cluster/slurm_cancel.py."""
    from kit.cluster import slurm_cancel

    ids = slurm_queue.submitted(run)
    return slurm_cancel.end(run, ids, slurm_queue.users([run]), names, behind, say) if ids else []


def own_nodes() -> list[str]:
    """The nodes of the job that this process belongs to; empty if scontrol does not name them."""
    try:
        return nodes.names(os.environ["SLURM_JOB_NODELIST"])
    except ClusterError:
        return []


def state(job: str) -> ask.JobState:
    """The state of a job, from `scontrol show job`. Raises ClusterError if it is refused."""
    fields = until_answered(lambda: ask.fields(job))
    return ask.of_fields(fields, preempted=preemption.ended(fields))


def requeue(job: str) -> None:
    """Run `scontrol requeue`. Raises ClusterError if it is refused."""
    until_answered(lambda: ask.slurm("scontrol", "requeue", job))


def note(job: str, text: str) -> None:
    """Make the text the job's comment: Slurm's own record has only the state REQUEUED."""
    try:
        ask.slurm("scontrol", "update", f"jobid={job}", f"comment=ekiden: {text}")
    except ClusterError as error:  # a site may not allow it, and it is only a comment
        log.warning(f"requeue: {error}")


def exclude(job: str, failures: Mapping[str, int], needed: int) -> list[str]:
    """Exclude nodes on which a requeued job has failed: see kit/cluster/nodes.py."""
    return nodes.exclude(job, failures, needed)
