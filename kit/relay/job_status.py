"""What became of the jobs that were submitted last: told from the queue and from what they left behind.

Of Slurm there is squeue, which forgets a job five minutes after its end, never the accounting. What
stays is in the run directory: what kit/relay/snapshot.py reads, logs, and submitit's results.

    submission = fate.read(snapshot(run))
    fate.of(submission, "preprocess", unfinished=["download"])
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from kit.cluster import decisions, scheduler
from kit.errors import ClusterError
from kit.relay import local_process, logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kit.cluster.state import Element
    from kit.relay.snapshot import Snapshot

State = Literal["queued", "running", "failed", "cancelled", "stopped", "interrupted", "unknown"]
ALIVE = ("queued", "running")

_FAILED = ("FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")


@dataclass(frozen=True)
class JobStatus:
    """What became of a job, or is about to."""

    state: State
    reason: str
    since: float | None = None  # Unix time
    job: str | None = None  # `job 17_1`, `process 123`
    log: Path | None = None


@dataclass(frozen=True)
class Submission:
    """What is known of the jobs that were submitted last: from files, the queue, and this machine."""

    seen: Snapshot
    queue: Mapping[str, Sequence[Element]]  # by id
    silent: str | None  # why the queue says nothing
    supervisor: local_process.LocalProcess | None

    @property
    def time(self) -> float:
        """Unix time of the submission."""
        return self.seen.submitted.time


def read(seen: Snapshot) -> Submission:
    """What the queue and this machine say, asked once, beside what the files say."""
    queue: Mapping[str, Sequence[Element]] = {}
    silent = None
    try:
        queue = scheduler.queue(seen.run)
    except ClusterError as error:
        silent = str(error)
    return Submission(seen, queue, silent, local_process.of(seen.run))


def of(submission: Submission, name: str, unfinished: Sequence[str]) -> JobStatus | None:
    """What became of a stage's job; `unfinished` are the stages before it that are not done.

    None where nothing is known, as of a job that ended well.
    """
    submitted = submission.seen.submitted
    if name in submitted.slurm:
        return _on_slurm(submission, name, _first(unfinished, submitted.slurm))
    if name in submitted.here:
        return _here(submission, name, _first(unfinished, submitted.here))
    return _recorded(submission, name, 0.0)


def _first(names: Sequence[str], among: Mapping[str, object]) -> str | None:
    return next((name for name in names if name in among), None)


def _on_slurm(submission: Submission, name: str, before: str | None) -> JobStatus | None:
    job = submission.seen.submitted.slurm[name]
    elements = submission.queue.get(job, ())
    if alive := [element for element in elements if element.alive]:
        return _alive(submission, name, alive)
    if submission.silent:
        return JobStatus("unknown", submission.silent, job=f"job {job}")
    if known := _recorded(submission, name, submission.time):
        return known
    after = f"{before} did not end well before it" if before else None
    bad = [e for e in elements if e.state in _FAILED or e.state == "CANCELLED"]
    if not bad:
        return _vanished(submission, name, job, after)
    first = min(bad, key=lambda element: element.state == "CANCELLED")
    told = f"Slurm: {first.state}" + ("" if first.reason == "None" else f", {first.reason}")
    return JobStatus(
        "cancelled" if first.state == "CANCELLED" else "failed",
        f"{after} ({told})" if after else told,
        first.ended,
        f"job {first.job}",
        logs.of_task(submission.seen.run.job_logs(name), first.job),
    )


def _alive(submission: Submission, name: str, alive: Sequence[Element]) -> JobStatus:
    """A job in the queue, or at work."""
    waiting = [element for element in alive if element.state == "PENDING"]
    working = [element for element in alive if element.state != "PENDING"]
    one = min(working or waiting, key=lambda element: element.started or element.submitted or 0.0)
    log = logs.of_task(submission.seen.run.job_logs(name), one.job)
    ended = _recorded(submission, name, submission.time)
    row = _last_row(submission, name, submission.time)
    if working:
        reason = one.state.lower() if one.state != "RUNNING" else "at work"
        if waiting:
            reason += f", tasks that wait: Slurm: {waiting[0].reason}"
        if ended:
            reason += f"; a task has {ended.state}: {ended.reason}"
        return JobStatus("running", reason, one.started, f"job {one.job}", log)
    told = f"Slurm: {one.reason}"
    if row and row["requeued"]:
        return JobStatus(
            "queued", f"requeued after {row['reason']}; {told}", row["time"], f"job {one.job}", log
        )
    return JobStatus("queued", told, one.submitted, f"job {one.job}", log)


def _vanished(submission: Submission, name: str, job: str, after: str | None) -> JobStatus | None:
    """A job that Slurm has forgotten, and that left no word; None where each of its tasks ended well."""
    folder = submission.seen.run.job_logs(name)
    tasks = {
        path.name.removesuffix("_submitted.pkl") for path in folder.glob(f"{job}_*submitted.pkl")
    }
    if tasks and all(any(folder.glob(f"{task}_*_result.pkl")) for task in tasks):
        return None
    log = logs.newest(folder, job)
    if log is None:
        reason = "gone from Slurm's queue before it began, as after scancel"
        return JobStatus("cancelled", after or reason, None, f"job {job}")
    return JobStatus(
        "failed",
        "ended without a word: its node was lost, or it was killed while it ended",
        log.stat().st_mtime,
        f"job {job}",
        log,
    )


def _here(submission: Submission, name: str, before: str | None) -> JobStatus | None:
    who, begun = submission.supervisor, submission.seen.submitted.here[name]
    told = f"process {who.number}" if who else None
    alive = who is not None and who.alive
    if before:
        return JobStatus("queued", f"after {before}", submission.time, told) if alive else None
    if alive and begun is None:
        return JobStatus("queued", "its process is starting", submission.time, told)
    log = logs.newest(submission.seen.run.job_logs(name), since=begun or 0.0)
    if alive:
        return JobStatus("running", "at work", begun, told, log)
    if known := _recorded(submission, name, submission.time):
        return replace(known, log=known.log or log)
    if who is None:
        return None
    if submission.seen.submitted.node not in (None, socket.gethostname()):
        return JobStatus(
            "unknown", f"{told} is one of {submission.seen.submitted.node}; ask there", begun, told
        )
    reason = f"{told}, which was at work on it, was killed, or its machine went down"
    return JobStatus("interrupted", reason, begun, told, log)


def _recorded(submission: Submission, name: str, since: float) -> JobStatus | None:
    """How a job ended by what was written down: a mistake of the user's, or the last decision."""
    folder = submission.seen.run.job_logs(name)
    row = _last_row(submission, name, since)
    if mistake := submission.seen.mistakes.get(name):
        task = _task(mistake.job)
        told = f"job {task}" if name in submission.seen.submitted.slurm else None
        return JobStatus("failed", mistake.message, mistake.time, told, logs.of_task(folder, task))
    if row is None or row["requeued"] or row["reason"] == "done":
        return None
    reason, task = row["reason"], _task(row["job"])
    ended: State = "failed"
    if reason == decisions.CANCELLED:
        ended, reason = "cancelled", "by its user: scancel, Ctrl-C or kill"
    elif reason.startswith(f"{decisions.STOPPED}: "):
        ended, reason = "stopped", reason.removeprefix(f"{decisions.STOPPED}: ")
    told = f"job {task}" if name in submission.seen.submitted.slurm else None
    return JobStatus(ended, reason, row["time"], told, logs.of_task(folder, task))


def _last_row(submission: Submission, name: str, since: float) -> decisions.RequeueRecord | None:
    """The last decision on a job, of its present start; of an array one for good before any other."""
    rows = [
        row
        for row in submission.seen.decisions
        if row["name"] == name and row["time"] > since and decisions.is_of_last_start(row)
    ]
    for_good = [row for row in rows if not row["requeued"] and row["reason"] != "done"]
    chosen = for_good if name != "train" and for_good else rows
    return chosen[-1] if chosen else None


def _task(token: str) -> str:
    """The task of a start's token: ID or ARRAY_INDEX on Slurm, NAME-TASK here."""
    job = token.rsplit(".", 1)[0]
    return job.rsplit("-", 1)[0] if "-" in job else job
