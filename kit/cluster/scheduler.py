"""What the kit asks of a scheduler: Slurm fills it, and on a machine without one the local supervisor.

    queue = scheduler.of(cluster)
    queue.check(cluster)
    queue.submit(run, cluster, jobs, lay_out)

A scheduler is a module of this room with these functions, named as the cluster's `kind`. Whoever sends
jobs, looks at them or ends them asks the one of the cluster, and knows none by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kit.cluster.jobs import Alive, Job, Sent
    from kit.cluster.state import Element, JobState
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

Kind = Literal["slurm", "local"]  # those of kit/config/cluster.py


class Scheduler(Protocol):
    """A module that sends jobs, knows of them and ends them."""

    def check(self, cluster: Cluster) -> None:
        """Raises ClusterError where the scheduler is not there."""

    def problems(self, cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
        """A line for each limit of the scheduler's that jobs do not keep to."""

    def submit(
        self, run: Run, cluster: Cluster, jobs: Sequence[Job], lay_out: Callable[[], object]
    ) -> Sent:
        """Send jobs, each after the one before; `lay_out` writes what they read, before.

        Raises ClusterError where it is refused, RunError where another process is at work on the run.
        """

    def ensure_idle(self, run: Run) -> None:
        """Raises RunError while something of this run is alive."""

    def alive(self, run: Run) -> list[Alive]:
        """What of a run is alive, by what was submitted last. Raises ClusterError if that is not known."""

    def queue(self, run: Run) -> Mapping[str, Sequence[Element]]:
        """All that the scheduler knows of what was submitted last, by id. Raises ClusterError."""

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs by their ids."""

    # What the exit trap asks of its own job (kit/cluster/requeue.py).

    def own_id(self) -> str:
        """The id of the job this process belongs to; in an array, that of its element alone."""

    def own_nodes(self) -> list[str]:
        """The nodes of that job."""

    def state(self, job: str) -> JobState:
        """What decides over a requeue of a job whose tasks have ended."""

    def requeue(self, job: str, reason: str) -> None:
        """Have a job start again, for a reason that its record tells."""

    def exclude(self, job: str, failures: Mapping[str, int], needed: int) -> list[str]:
        """Keep a requeued job from nodes that failed so often; returns which. Raises ClusterError."""


def of(cluster: Cluster) -> Scheduler:
    """The scheduler of a cluster."""
    return of_kind(cluster.kind)


def of_kind(kind: Kind) -> Scheduler:
    """A scheduler by its name, imported when it is asked for."""
    if kind == "local":
        from kit.cluster import local

        return local
    from kit.cluster import slurm

    return slurm


def every() -> list[Scheduler]:
    """All schedulers: a run may have been submitted to any of them."""
    return [of_kind(kind) for kind in get_args(Kind)]


def ensure_idle(run: Run) -> None:
    """Raises RunError while a scheduler has something of this run, whichever it was submitted to."""
    for one in every():
        one.ensure_idle(run)


def alive(run: Run) -> list[Alive]:
    """What of a run is alive on the first scheduler that has something. Raises ClusterError."""
    return next((found for one in every() if (found := one.alive(run))), [])


def queue(run: Run) -> dict[str, Sequence[Element]]:
    """All that schedulers know of what was submitted last, by id. Raises ClusterError."""
    return {job: elements for one in every() for job, elements in one.queue(run).items()}
