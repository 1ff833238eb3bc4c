"""Slurm as a scheduler: submits through submitit, and uses Slurm's own commands (kit/cluster/state.py).

The interface is in kit/cluster/scheduler.py. The exit trap imports this module: functions that need
submitit, which is slow, import it themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.cluster import arrays, lock, nodes, preemption
from kit.cluster import jobs as jobs_module
from kit.cluster import state as ask
from kit.cluster.jobs import Alive, Sent, clear_previous_outcome
from kit.cluster.patience import until_answered
from kit.errors import ClusterError, QueueLimit, RunError
from kit.output import log
from kit.output.interrupt import keeping
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kit.cluster.arrays import Fit, Limit
    from kit.cluster.jobs import Ended, Job
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

own_id = ask.own_id


def check(cluster: Cluster) -> None:
    """Raise ClusterError if Slurm is not available."""
    try:
        ask.answers()
    except ClusterError as error:
        raise ClusterError(f"cluster {cluster.name}: {error}") from None


def problems(cluster: Cluster, jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line for each limit that the jobs exceed; nothing if Slurm's limits are unknown."""
    from kit.cluster import limits

    yield from limits.problems(cluster, jobs)


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
    from kit.cluster import plain

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
    from kit.cluster import known_limits

    return known_limits.of(cluster, jobs)


def scripts(
    run: Run, cluster: Cluster, jobs: Sequence[Job], behind: Sequence[Alive] = ()
) -> dict[str, str]:
    """The scripts that `submit` would send, by job; JOB_ID_OF_name stands for the id of the job before."""
    from kit.cluster import launch

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
    queued = queue([run])
    cancel(_stranded(run, queued))
    known = {one.job for one in behind}
    _refuse([one for one in _alive(run, queued) if one.job not in known], run)


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
    from kit.cluster import launch

    before = read_json(run.jobs) if run.jobs.is_file() else None
    clear_previous_outcome(run, jobs)
    began = time.time()  # the first may have ended when the last is sent
    queued = {name: one.job for one in behind for name in one.stages}
    ids: dict[str, str] = {}
    last = [one.job for one in behind][-1:]

    def record(those: Mapping[str, str]) -> None:
        _record(run, cluster, began, queued, those)

    try:
        for job in jobs:
            with _signals_blocked():  # until the id of a job that sbatch has accepted is recorded
                ids[job.name] = launch.send(run, cluster, job, [*ids.values()][-1:] or last)
                # Immediately: if this process dies now, a second submission is still refused.
                record(ids)
    except BaseException as error:
        if left := _left_after_cancel(ids):
            record({name: number for name, number in ids.items() if number in left.jobs})
            raise ClusterError(
                f"{error or 'interrupted'}; submitted before, and not cancelled ({left.why}): once Slurm "
                f"answers, type: scancel {' '.join(left.jobs)}"
            ) from error
        for name, number in ids.items():
            launch.forget(run, name, number)
        _restore(run, before)
        raise
    return ids


def _record(
    run: Run, cluster: Cluster, began: float, queued: Mapping[str, str], ids: Mapping[str, str]
) -> None:
    """Record the jobs of a submission beside those that are in the queue already."""
    user = os.getuid()
    mine: dict[str, jobs_module.SentJob] = {
        name: {"time": began, "uid": user, "first": job} for name, job in ids.items()
    }
    sent = jobs_module.sent(run) | mine
    submission = {"cluster": cluster.name, "time": began, "slurm": {**queued, **ids}}
    write_json(run.jobs, submission | {"sent": sent})


@dataclass(frozen=True)
class _Left:
    """Jobs that could not be cancelled, and the reason."""

    jobs: Sequence[str]
    why: str


def _left_after_cancel(ids: Mapping[str, str]) -> _Left | None:
    """Cancel jobs; returns those that remain in the queue, or may remain there."""
    jobs = [*ids.values()]
    try:
        cancel(jobs)
    except ClusterError as problem:
        with contextlib.suppress(ClusterError):  # it may have cancelled some
            found = ask.queue(jobs, [os.getuid()])
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
    """Delay Ctrl-C and SIGTERM until the end of the block."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def submitted(run: Run) -> dict[str, str]:
    """The job ids of the last submission, by name, in the order of the chain; empty if not to Slurm."""
    ids: dict[str, str] = read_json(run.jobs).get("slurm", {}) if run.jobs.is_file() else {}
    sent = jobs_module.sent(run)
    return dict(sorted(ids.items(), key=lambda item: int(sent[item[0]].get("first", item[1]))))


def live(run: Run) -> dict[str, str]:
    """The states of this run's jobs that are queued or running, by id."""
    return {one.job: one.state for one in alive(run)}


def live_patiently(run: Run) -> dict[str, str]:
    """The same from within a job, with retries while slurmctld does not answer."""
    return until_answered(lambda: live(run))


def ensure_idle(run: Run) -> None:
    """Raise RunError while Slurm has a job of this run that is queued or running."""
    _refuse(alive(run), run)


def _refuse(jobs: Sequence[Alive], run: Run) -> None:
    for one in jobs:
        raise RunError(
            f"{run.root}: {one.who} of this run is {one.state}; wait for it, or {one.remedy}"
        )


def alive(run: Run) -> list[Alive]:
    """The jobs of this run that are queued or running, in the order of their submission."""
    return _alive(run, queue([run]))


def _alive(run: Run, queued: Mapping[str, Sequence[ask.Element]]) -> list[Alive]:
    found, stranded = [], _stranded(run, queued)
    for name, job in submitted(run).items():
        elements = queued.get(job, ())
        states = [one.state for one in elements if one.alive]
        if states and job not in stranded:
            state = "RUNNING" if "RUNNING" in states else states[0]
            bad = _dead(run, name, job, elements)
            words = f"job {job} {state.lower()}"
            found.append(Alive(job, f"job {job}", words, f"scancel {job}", state, (name,), bad))
    return found


def _dead(run: Run, name: str, job: str, elements: Sequence[ask.Element]) -> list[str]:
    """The tasks of an array that are over without a mark of success.

    An element that is cancelled before it starts leaves no trace in Slurm.
    """
    record = run.submitted_tasks(name, job)
    count = read_json(record)["elements"] if record.is_file() else 1
    present = [one for one in elements if one.alive]
    running = {one.job for one in present}
    tasks = [f"{job}_{index}" for index in range(count)] if count > 1 else []
    return [
        task
        for index, task in enumerate(tasks)
        if task not in running
        and not any(one.holds(index) for one in present)
        and not run.task_done(name, task).is_file()
    ]


def _stranded(run: Run, queued: Mapping[str, Sequence[ask.Element]]) -> list[str]:
    """The jobs that wait for one that failed, and those that wait for them."""
    stranded: list[str] = []
    for job in submitted(run).values():
        elements = queued.get(job, ())
        waits = any(one.alive and one.reason == "Dependency" for one in elements)
        if any(one.never_starts for one in elements) or (stranded and waits):
            stranded.append(job)
    return stranded


def queue(
    runs: Sequence[Run], patience: float = ask.PATIENCE
) -> Mapping[str, Sequence[ask.Element]]:
    """Everything squeue knows about the last submissions, by job id; one call for all of them."""
    ids = [job for run in runs for job in submitted(run).values()]
    return ask.queue(ids, _users(runs), patience) if ids else {}


def _users(runs: Sequence[Run]) -> set[int]:
    """The uids of all that submitted jobs; empty if not known of one, as in earlier versions."""
    known: set[int] = set()
    for run in runs:
        sent = jobs_module.sent(run)
        for name in submitted(run):
            if "uid" not in sent[name]:
                return set()
            known.add(sent[name]["uid"])
    return known


def cancel(jobs: Sequence[str]) -> None:
    """Run `scancel` on all the jobs at once. Raises ClusterError if one is not cancelled."""
    if jobs:
        ask.slurm("scancel", *jobs)


def end(
    run: Run, names: Sequence[str], behind: Sequence[str], say: Callable[[str], None]
) -> list[Ended]:
    """End jobs of the last submission: see kit/cluster/slurm_cancel.py."""
    from kit.cluster import slurm_cancel

    ids = submitted(run)
    return slurm_cancel.end(run, ids, _users([run]), names, behind, say) if ids else []


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
