"""Submission of a chain of jobs to Slurm, as a whole or not at all, within Slurm's limits.

submit(run, cluster, jobs, lay_out)
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.cluster import arrays, launch, lock, plain, queue_limits, slurm_queue, state
from kit.cluster.jobs import Sent, clear_previous_outcome
from kit.errors import ClusterError, QueueLimit
from kit.output.interrupt import keeping
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kit.cluster.arrays import Fit, Limit
    from kit.cluster.jobs import Alive, Job
    from kit.config.cluster import Cluster
    from kit.store.paths import Run


def submit(
    run: Run,
    cluster: Cluster,
    jobs: Sequence[Job],
    lay_out: Callable[[], object],
    behind: Sequence[Alive] = (),
) -> Sent:
    """Submit jobs to Slurm, each to start after the one before, the first after the last of `behind`.

    An array larger than a limit allows gets fewer tasks (kit/cluster/arrays.py). Raises RunError if another
    job of the run is in the queue than those of `behind`, and ClusterError if Slurm does not answer or
    refuses; then, and after a signal, the jobs already submitted are cancelled.
    """
    kept = "the jobs already submitted are cancelled"
    with lock.hold(run), lock.submission(run), keeping(kept):
        _refuse_others(run, behind)
        limits = _limits(cluster, jobs)
        arrays.within(jobs, limits)  # refused before anything is written
        lay_out()
        plain.write_setup(run, cluster)
        return _send_what_fits(run, cluster, jobs, limits, behind)


def fitted(cluster: Cluster, jobs: Sequence[Job]) -> Fit:
    """The jobs as Slurm's limits allow them, as far as it tells them. Raises QueueLimit."""
    return arrays.within(jobs, _limits(cluster, jobs))


def _limits(cluster: Cluster, jobs: Sequence[Job]) -> list[Limit]:
    return queue_limits.of(cluster, jobs)


def scripts(
    run: Run, cluster: Cluster, jobs: Sequence[Job], behind: Sequence[Alive] = ()
) -> dict[str, str]:
    """The scripts that `submit` would send, by job; JOB_ID_OF_name stands for the id of the job before."""
    first = [one.job for one in behind][-1:]
    before = [first, *([f"JOB_ID_OF_{job.name}"] for job in jobs)]
    return {
        job.name: launch.script(run, cluster, job, after)
        for job, after in zip(jobs, before, strict=False)
    }


def _refuse_others(run: Run, behind: Sequence[Alive]) -> None:
    """Raise RunError if the queue has another job of the run: of a submission made in the meantime.

    A job that waits for one that failed is cancelled: it would never start.
    """
    queued = slurm_queue.queue([run])
    slurm_queue.cancel(slurm_queue.stranded(run, queued))
    known = {one.job for one in behind}
    slurm_queue.refuse(
        [one for one in slurm_queue.alive_of(run, queued) if one.job not in known], run
    )


def _send_what_fits(
    run: Run,
    cluster: Cluster,
    jobs: Sequence[Job],
    limits: Sequence[Limit],
    behind: Sequence[Alive],
) -> Sent:
    """Submit the chain; if sbatch refuses an array for a limit, again with less in all."""
    found: list[Limit] = []
    while True:
        fit = arrays.within(jobs, [*limits, *found])
        try:
            return Sent(_send(run, cluster, fit.jobs, behind), notes=fit.lines)
        except QueueLimit as refused:
            smaller = arrays.after_refusal(fit.jobs, refused, len(found) + 1)
            if smaller is None:
                raise
            found.append(smaller)


def _send(
    run: Run, cluster: Cluster, jobs: Sequence[Job], behind: Sequence[Alive]
) -> dict[str, str]:
    """Submit each job once; if one is refused, none stays in the queue or on record."""
    before = read_json(run.jobs) if run.jobs.is_file() else None
    clear_previous_outcome(run, jobs)
    began = time.time()  # the first may have ended when the last is sent
    queued = {name: one.job for one in behind for name in one.stages}
    ids: dict[str, str] = {}
    last = [one.job for one in behind][-1:]

    try:
        for job in jobs:
            with _signals_blocked():  # until the id of a job that sbatch has accepted is recorded
                ids[job.name] = launch.send(run, cluster, job, [*ids.values()][-1:] or last)
                # Immediately: if this process dies now, a second submission is still refused.
                slurm_queue.record(run, cluster.name, began, queued, ids)
    except BaseException as error:
        if left := _left_after_cancel(ids):
            there = {name: number for name, number in ids.items() if number in left.jobs}
            slurm_queue.record(run, cluster.name, began, queued, there)
            raise ClusterError(
                f"{error or 'interrupted'}; submitted before, and not cancelled ({left.why}): once Slurm "
                f"answers, type: scancel {' '.join(left.jobs)}"
            ) from error
        for name, number in ids.items():
            launch.forget(run, name, number)
        _restore(run, before)
        raise
    return ids


@dataclass(frozen=True)
class _Left:
    """Jobs that could not be cancelled, and the reason."""

    jobs: Sequence[str]
    why: str


def _left_after_cancel(ids: Mapping[str, str]) -> _Left | None:
    """Cancel jobs; returns those that remain in the queue, or may remain there."""
    jobs = [*ids.values()]
    try:
        slurm_queue.cancel(jobs)
    except ClusterError as problem:
        with contextlib.suppress(ClusterError):  # it may have cancelled some
            found = state.queue(jobs, [os.getuid()])
            jobs = [job for job in jobs if any(one.alive for one in found.get(job, ()))]
        return _Left(jobs, str(problem)) if jobs else None
    return None


def _restore(run: Run, record: Any) -> None:
    """Put back the record of the submission before; None if there was none."""
    if record is None:
        run.jobs.unlink(missing_ok=True)
    else:
        write_json(run.jobs, record)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the end of the block."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
