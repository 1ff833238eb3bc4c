"""The jobs of a run in Slurm's queue: ids of its last submission, and what squeue says of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kit.cluster import state
from kit.cluster.jobs import Alive, SentJob, sent
from kit.cluster.patience import until_answered
from kit.errors import RunError
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.store.paths import Run


def submitted(run: Run) -> dict[str, str]:
    """The job ids of the last submission, by name, in the order of the chain; empty if not to Slurm."""
    ids: dict[str, str] = read_json(run.jobs).get("slurm", {}) if run.jobs.is_file() else {}
    records = sent(run)
    return dict(sorted(ids.items(), key=lambda item: int(records[item[0]].get("first", item[1]))))


def record(
    run: Run,
    cluster: str,
    began: float,
    queued: Mapping[str, str],
    ids: Mapping[str, str],
    *,
    plain: bool = False,
) -> None:
    """Record the jobs `ids` of this user beside those in the queue already; `plain`: of plain scripts."""
    user = os.getuid()
    mine: dict[str, SentJob] = {
        name: {"time": began, "uid": user, "plain": plain, "first": job}
        for name, job in ids.items()
    }
    of_all = sent(run) | mine
    submission = {"cluster": cluster, "time": began, "slurm": {**queued, **ids}}
    write_json(run.jobs, submission | {"sent": of_all})


def alive(run: Run) -> list[Alive]:
    """The jobs of this run that are queued or running, in the order of their submission."""
    return alive_of(run, queue([run]))


def live(run: Run) -> dict[str, str]:
    """The states of this run's jobs that are queued or running, by id."""
    return {one.job: one.state for one in alive(run)}


def live_patiently(run: Run) -> dict[str, str]:
    """The same from within a job, with retries while slurmctld does not answer."""
    return until_answered(lambda: live(run))


def ensure_idle(run: Run) -> None:
    """Raise RunError while Slurm has a job of this run that is queued or running."""
    refuse(alive(run), run)


def refuse(jobs: Sequence[Alive], run: Run) -> None:
    """Raise RunError for the first of these jobs."""
    for one in jobs:
        raise RunError(
            f"{run.root}: {one.who} of this run is {one.state}; wait for it, or {one.remedy}"
        )


def alive_of(run: Run, queued: Mapping[str, Sequence[state.Element]]) -> list[Alive]:
    """The same, by an answer of squeue; not those that wait for a job that failed."""
    found, never, records = [], stranded(run, queued), sent(run)
    for name, job in submitted(run).items():
        elements = queued.get(job, ())
        states = [one.state for one in elements if one.alive]
        if states and job not in never:
            now = "RUNNING" if "RUNNING" in states else states[0]
            bad = _dead(run, name, job, elements)
            plain = records[name].get("plain", False)
            words = f"job {job} {now.lower()}"
            found.append(
                Alive(job, f"job {job}", words, f"scancel {job}", now, (name,), plain, bad)
            )
    return found


def _dead(run: Run, name: str, job: str, elements: Sequence[state.Element]) -> list[str]:
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


def stranded(run: Run, queued: Mapping[str, Sequence[state.Element]]) -> list[str]:
    """The jobs that wait for one that failed, and those that wait for them."""
    found: list[str] = []
    for job in submitted(run).values():
        elements = queued.get(job, ())
        waits = any(one.alive and one.reason == "Dependency" for one in elements)
        if any(one.never_starts for one in elements) or (found and waits):
            found.append(job)
    return found


def queue(
    runs: Sequence[Run], patience: float = state.PATIENCE
) -> Mapping[str, Sequence[state.Element]]:
    """Everything squeue knows about the last submissions, by job id; one call for all of them."""
    ids = [job for run in runs for job in submitted(run).values()]
    return state.queue(ids, users(runs), patience) if ids else {}


def users(runs: Sequence[Run]) -> set[int]:
    """The uids of all that submitted jobs; empty if not known of one, as in earlier versions."""
    known: set[int] = set()
    for run in runs:
        records = sent(run)
        for name in submitted(run):
            if "uid" not in records[name]:
                return set()
            known.add(records[name]["uid"])
    return known


def cancel(jobs: Sequence[str]) -> None:
    """Run `scancel` on all the jobs at once. Raises ClusterError if one is not cancelled."""
    if jobs:
        state.slurm("scancel", *jobs)
