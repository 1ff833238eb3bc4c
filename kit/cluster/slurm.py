"""Slurm as a scheduler: jobs through submitit, and what its own commands say and do (kit/cluster/state.py).

See kit/cluster/scheduler.py for what each function is asked for. The exit trap imports this module:
submitit, which takes long, is imported by what needs it.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from kit.cluster import lock, nodes
from kit.cluster import state as ask
from kit.cluster.jobs import Alive, Sent, clear_previous_outcome
from kit.errors import ClusterError, RunError
from kit.output import log
from kit.output.interrupt import keeping
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

T = TypeVar("T")

own_id = ask.own_id
_TRIES, _PAUSE = 240, 15  # times and seconds: an hour of a slurmctld that does not answer


def check(cluster: Cluster) -> None:
    """Raises ClusterError where Slurm is not there."""
    try:
        ask.live([])
    except ClusterError as error:
        raise ClusterError(f"cluster {cluster.name}: {error}") from None


def problems(cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
    """A line for each limit that jobs do not keep to; none where Slurm does not say what they are."""
    from kit.cluster import limits

    yield from limits.problems(cluster, jobs)


def submit(run: Run, cluster: Cluster, jobs: Sequence[Job], lay_out: Callable[[], object]) -> Sent:
    """Send jobs to Slurm, each after the one before.

    Raises ClusterError where Slurm does not answer or refuses; then, and after a signal, those that
    were sent are cancelled.
    """
    with lock.hold(run), keeping("the jobs that were sent are cancelled"):
        lay_out()
        return Sent(_send(run, cluster, jobs))


def _send(run: Run, cluster: Cluster, jobs: Sequence[Job]) -> dict[str, str]:
    from kit.cluster import launch

    clear_previous_outcome(run, jobs)
    began = time.time()  # the first may have ended when the last is sent
    ids: dict[str, str] = {}
    try:
        for job in jobs:
            with _undisturbed():  # a job that sbatch has taken is known by its id
                ids[job.name] = launch.send(run, cluster, job, [*ids.values()][-1:])
                # At once: a chain that is broken off here is still known, and refuses a second one.
                known = {"cluster": cluster.name, "time": began, "slurm": ids}
                write_json(run.jobs, known)
    except BaseException:
        cancel([*ids.values()])
        raise
    return ids


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait until the end of the block."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def submitted(run: Run) -> dict[str, str]:
    """The ids of the jobs that were submitted last, by name; none where they went elsewhere."""
    known: dict[str, str] = read_json(run.jobs).get("slurm", {}) if run.jobs.is_file() else {}
    return known


def live(run: Run) -> dict[str, str]:
    """The state of each job of this run that Slurm has still to run or is running, by its id."""
    known = submitted(run)
    return ask.live([*known.values()]) if known else {}


def ensure_idle(run: Run) -> None:
    """Raises RunError where Slurm still has a job of this run."""
    if found := live(run):
        job, status = next(iter(found.items()))
        raise RunError(
            f"{run.root}: job {job} of this run is {status}; wait for it, or scancel {job}"
        )


def alive(run: Run) -> list[Alive]:
    """The jobs of this run that Slurm has still to run or is running."""
    return [
        Alive(job, f"job {job}", f"job {job} {status.lower()}", f"scancel {job}")
        for job, status in live(run).items()
    ]


def queue(run: Run) -> Mapping[str, Sequence[ask.Element]]:
    """All that squeue knows of the jobs that were submitted last, by id."""
    known = submitted(run)
    return ask.queue([*known.values()]) if known else {}


def cancel(jobs: Sequence[str]) -> None:
    """scancel."""
    for job in jobs:
        ask.slurm("scancel", job)


def own_nodes() -> list[str]:
    """The nodes of the job this process belongs to."""
    return _patiently(lambda: nodes.names(os.environ["SLURM_JOB_NODELIST"]))


def state(job: str) -> ask.JobState:
    """What `scontrol show job` says of a job."""
    return _patiently(lambda: ask.job(job))


def requeue(job: str, reason: str) -> None:
    """scontrol requeue."""
    # Slurm's own record says REQUEUED, whatever the reason was: the comment tells it.
    comment = f"comment=ekiden: {reason}, requeued"
    try:
        ask.slurm("scontrol", "update", f"jobid={job}", comment)
    except ClusterError as error:  # a site may not allow it: it is only a word
        log.warning(f"requeue: {error}")
    _patiently(lambda: ask.slurm("scontrol", "requeue", job))


def exclude(job: str, failures: Mapping[str, int], needed: int) -> list[str]:
    """Keep a job that has just been requeued from nodes that failed it: see kit/cluster/nodes.py."""
    return nodes.exclude(job, failures, needed)


def _patiently(question: Callable[[], T]) -> T:
    """Ask Slurm, again while it does not answer: slurmctld may be busy, or being restarted."""
    for _ in range(_TRIES):
        try:
            return question()
        except ClusterError as error:
            log.warning(f"requeue: {error}; again in {_PAUSE} s")
            time.sleep(_PAUSE)
    return question()
