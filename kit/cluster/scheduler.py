"""Interface of a scheduler: Slurm, or the local supervisor on a machine without Slurm.

    queue = scheduler.for_cluster(cluster)
    queue.check(cluster)
    queue.submit(run, cluster, jobs, lay_out)

A scheduler is a module of this package with these functions, named like the cluster's `kind`. Code that
submits, inspects or ends jobs uses the cluster's scheduler, and refers to none by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

from kit.cluster.state import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kit.cluster.arrays import Fit
    from kit.cluster.jobs import Alive, Ended, Job, Sent
    from kit.cluster.state import Element, JobState
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

Kind = Literal["slurm", "local"]  # as in kit/config/cluster.py


class Scheduler(Protocol):
    """A module that submits, inspects and ends jobs."""

    def check(self, cluster: Cluster) -> None:
        """Raise ClusterError if the scheduler is not available."""

    def problems(self, cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
        """Yield a line for each limit of the scheduler that the jobs exceed."""

    def fitted(self, cluster: Cluster, jobs: Sequence[Job]) -> Fit:
        """The jobs as `submit` would send them, within the scheduler's limits. Raises QueueLimit."""

    def submit(
        self,
        run: Run,
        cluster: Cluster,
        jobs: Sequence[Job],
        lay_out: Callable[[], object],
        behind: Sequence[Alive] = (),
    ) -> Sent:
        """Submit jobs, each to start after the one before; first, `lay_out` writes the files they read.

        `behind` are all jobs of the run in the queue; the first new one starts after the last of them.
        Raises ClusterError if a job is refused, RunError if another process works on the run.
        """

    def scripts(
        self, run: Run, cluster: Cluster, jobs: Sequence[Job], behind: Sequence[Alive] = ()
    ) -> dict[str, str]:
        """The scripts of fitted jobs, by job; empty if `submit` sends none. Writes nothing."""

    def ensure_idle(self, run: Run) -> None:
        """Raise RunError while a job of this run is queued or running."""

    def alive(self, run: Run) -> list[Alive]:
        """Jobs of the run's last submission that are queued or running. Raises ClusterError if unknown."""

    def queue(
        self, runs: Sequence[Run], patience: float = PATIENCE
    ) -> Mapping[str, Sequence[Element]]:
        """Everything the scheduler knows about the last submission of each run, by job id.

        Raises ClusterError, also if there is no answer in `patience` seconds.
        """

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs by their ids."""

    def end(
        self, run: Run, names: Sequence[str], behind: Sequence[str], say: Callable[[str], None]
    ) -> list[Ended]:
        """End jobs of the last submission by their names, and if any is alive, those `behind` them.

        Training saves first. Returns when none is left in the queue: empty if there was nothing to end.
        Raises RunError or ClusterError.
        """

    # For the exit trap, about its own job (kit/cluster/requeue.py).

    def own_id(self) -> str:
        """The id of the job that this process belongs to; in an array, of its element alone."""

    def own_nodes(self) -> list[str]:
        """The nodes of that job."""

    def state(self, job: str) -> JobState:
        """The state of a job whose tasks have ended, which decides on its requeue.

        Raises ClusterError if the scheduler refuses to say.
        """

    def requeue(self, job: str) -> None:
        """Start a job again. Raises ClusterError if the scheduler refuses."""

    def note(self, job: str, text: str) -> None:
        """Put a text into the scheduler's record of a job, if it has one."""

    def exclude(self, job: str, failures: Mapping[str, int], needed: int) -> list[str]:
        """Exclude nodes by their `failures` from a requeued job; returns them. Raises ClusterError."""


def for_cluster(cluster: Cluster) -> Scheduler:
    """The scheduler of a cluster."""
    return for_kind(cluster.kind)


def for_kind(kind: Kind) -> Scheduler:
    """A scheduler by its name, imported on demand."""
    if kind == "local":
        from kit.cluster import local

        return local
    from kit.cluster import slurm

    return slurm


def all_schedulers() -> list[Scheduler]:
    """All schedulers: a run may have been submitted to any of them."""
    return [for_kind(kind) for kind in get_args(Kind)]


def ensure_idle(run: Run) -> None:
    """Raise RunError while any scheduler has a job of this run that is queued or running."""
    for scheduler in all_schedulers():
        scheduler.ensure_idle(run)


def alive(run: Run) -> list[Alive]:
    """Jobs of a run that are queued or running, on the first scheduler with any. Raises ClusterError."""
    return next((jobs for scheduler in all_schedulers() if (jobs := scheduler.alive(run))), [])


def queue(runs: Sequence[Run], patience: float = PATIENCE) -> dict[str, Sequence[Element]]:
    """Everything the schedulers know about the last submissions, by job id. Raises ClusterError."""
    queues = [scheduler.queue(runs, patience) for scheduler in all_schedulers()]
    return {job: elements for queue in queues for job, elements in queue.items()}
