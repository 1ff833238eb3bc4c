"""Slurm as a scheduler: submits through submitit, and uses Slurm's own commands (kit/cluster/state.py).

The interface is in kit/cluster/scheduler.py. The exit trap imports this module: functions that need
submitit, which is slow, import it themselves.
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

    from kit.cluster.jobs import Ended, Job
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

T = TypeVar("T")

own_id = ask.own_id
_TRIES, _PAUSE = 240, 15  # attempts and seconds: an hour of slurmctld not answering


def check(cluster: Cluster) -> None:
    """Raise ClusterError if Slurm is not available."""
    try:
        ask.live([])
    except ClusterError as error:
        raise ClusterError(f"cluster {cluster.name}: {error}") from None


def problems(cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line for each limit that the jobs exceed; nothing if Slurm's limits are unknown."""
    from kit.cluster import limits

    yield from limits.problems(cluster, jobs)


def submit(run: Run, cluster: Cluster, jobs: Sequence[Job], lay_out: Callable[[], object]) -> Sent:
    """Submit jobs to Slurm, each to start after the one before.

    Raises ClusterError if Slurm does not answer or refuses; then, and after a signal, the jobs already
    submitted are cancelled.
    """
    with lock.hold(run), keeping("the jobs already submitted are cancelled"):
        lay_out()
        return Sent(_send(run, cluster, jobs))


def scripts(run: Run, cluster: Cluster, jobs: Sequence[Job]) -> dict[str, str]:
    """The scripts that `submit` would send, by job; JOB_ID_OF_name stands for the id of the job before."""
    from kit.cluster import launch

    names = [job.name for job in jobs]
    before = [[], *([f"JOB_ID_OF_{name}"] for name in names)]
    return {
        job.name: launch.script(run, cluster, job, after)
        for job, after in zip(jobs, before, strict=False)
    }


def _send(run: Run, cluster: Cluster, jobs: Sequence[Job]) -> dict[str, str]:
    from kit.cluster import launch

    clear_previous_outcome(run, jobs)
    began = time.time()  # the first may have ended when the last is sent
    ids: dict[str, str] = {}
    try:
        for job in jobs:
            with _signals_blocked():  # until the id of a job that sbatch has accepted is recorded
                ids[job.name] = launch.send(run, cluster, job, [*ids.values()][-1:])
                # Immediately: if this process dies now, a second submission is still refused.
                submission = {"cluster": cluster.name, "time": began, "slurm": ids}
                write_json(run.jobs, submission)
    except BaseException:
        cancel([*ids.values()])
        raise
    return ids


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def submitted(run: Run) -> dict[str, str]:
    """The job ids of the last submission, by name; empty if it was not to Slurm."""
    ids: dict[str, str] = read_json(run.jobs).get("slurm", {}) if run.jobs.is_file() else {}
    return ids


def live(run: Run) -> dict[str, str]:
    """The states of this run's jobs that are queued or running, by id."""
    ids = submitted(run)
    return ask.live([*ids.values()]) if ids else {}


def ensure_idle(run: Run) -> None:
    """Raise RunError while Slurm has a job of this run that is queued or running."""
    if states := live(run):
        job, status = next(iter(states.items()))
        raise RunError(
            f"{run.root}: job {job} of this run is {status}; wait for it, or scancel {job}"
        )


def alive(run: Run) -> list[Alive]:
    """The jobs of this run that are queued or running."""
    return [
        Alive(job, f"job {job}", f"job {job} {status.lower()}", f"scancel {job}")
        for job, status in live(run).items()
    ]


def queue(run: Run) -> Mapping[str, Sequence[ask.Element]]:
    """Everything squeue knows about the last submission, by job id."""
    ids = submitted(run)
    return ask.queue([*ids.values()]) if ids else {}


def cancel(jobs: Sequence[str]) -> None:
    """Run `scancel` on each job."""
    for job in jobs:
        ask.slurm("scancel", job)


def end(
    run: Run, names: Sequence[str], behind: Sequence[str], say: Callable[[str], None]
) -> list[Ended]:
    """End jobs of the last submission: see kit/cluster/slurm_cancel.py."""
    from kit.cluster import slurm_cancel

    ids = submitted(run)
    return slurm_cancel.end(run, ids, names, behind, say) if ids else []


def own_nodes() -> list[str]:
    """The nodes of the job that this process belongs to."""
    return _with_retries(lambda: nodes.names(os.environ["SLURM_JOB_NODELIST"]))


def state(job: str) -> ask.JobState:
    """The state of a job, from `scontrol show job`."""
    return _with_retries(lambda: ask.job(job))


def requeue(job: str, reason: str) -> None:
    """Run `scontrol requeue`, with the reason as the job's comment."""
    # Slurm's own record has only the state REQUEUED, so the reason goes into the comment.
    comment = f"comment=ekiden: {reason}, requeued"
    try:
        ask.slurm("scontrol", "update", f"jobid={job}", comment)
    except ClusterError as error:  # a site may not allow it, and it is only a comment
        log.warning(f"requeue: {error}")
    _with_retries(lambda: ask.slurm("scontrol", "requeue", job))


def exclude(job: str, failures: Mapping[str, int], needed: int) -> list[str]:
    """Exclude nodes on which a requeued job has failed: see kit/cluster/nodes.py."""
    return nodes.exclude(job, failures, needed)


def _with_retries(request: Callable[[], T]) -> T:
    """Repeat a request to Slurm until it is answered: slurmctld may be busy, or restarting."""
    for _ in range(_TRIES):
        try:
            return request()
        except ClusterError as error:
            log.warning(f"requeue: {error}; again in {_PAUSE} s")
            time.sleep(_PAUSE)
    return request()
