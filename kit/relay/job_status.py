"""The status of the jobs submitted last, from Slurm's queue and from the files that they left.

squeue forgets a job five minutes after its end; then the files of the run directory decide, which
kit/cluster/snapshot.py reads, and logs and marks of success. Of a job that recorded no end in them, the
accounting is asked, once for all jobs.

    submission = job_status.read(snapshot(run))
    job_status.of_stage(submission, "preprocess", unfinished={"download": "failed"})
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from kit.cluster import decisions, reasons
from kit.cluster.state import ENDED_BADLY
from kit.relay import local_process, logs, queue_answer
from kit.store.files import read_json
from kit.store.job_tokens import job_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from kit.cluster.snapshot import Snapshot
    from kit.cluster.state import Element
    from kit.relay.queue_answer import QueueAnswer
    from kit.store.paths import Run

State = Literal["queued", "running", "failed", "cancelled", "stopped", "interrupted", "unknown"]
ALIVE = ("queued", "running")

_TRAIN = "train"
_NONE: Mapping[str, str] = MappingProxyType({})
_NOT_RUNNING = {  # states of a job that holds its nodes
    "SUSPENDED": "suspended, by `scontrol suspend` or for other jobs; it does nothing until it is resumed",
    "STOPPED": "stopped by a signal; it does nothing until it is continued",
    "COMPLETING": "ending",
    "CONFIGURING": "its nodes are being made ready",
}


@dataclass(frozen=True)
class JobStatus:
    """The status of a job, finished or not."""

    state: State
    reason: str | None  # None: the state says it all
    since: float | None = None  # Unix time
    job: str | None = None  # `job 17_1`, `process 123`
    log: Path | None = None
    running: int = 0  # tasks
    starts: float | None = None  # Unix time of Slurm's own estimate, for a queued job
    ends: float | None = None  # Unix time of the time limit, for a running one
    remedy: str | None = None  # the command that lets it start


@dataclass(frozen=True)
class Submission:
    """Everything known about the jobs submitted last: from files, the queue, and this machine."""

    seen: Snapshot
    queue: QueueAnswer
    supervisor: local_process.LocalProcess | None

    @property
    def time(self) -> float:
        """Unix time of the submission."""
        return self.seen.submitted.time

    def since(self, name: str) -> float:
        """Unix time of the last submission of a stage; 0 if it never was submitted."""
        return self.seen.submitted.since(name)


def read(seen: Snapshot, queue: QueueAnswer | None = None) -> Submission:
    """Look at this machine, and ask the queue once unless its answer is given."""
    return Submission(seen, queue or queue_answer.ask(seen), local_process.find(seen.run))


def of_stage(
    submission: Submission, name: str, unfinished: Mapping[str, str] = _NONE
) -> JobStatus | None:
    """The status of a stage's job; `unfinished` are the states of the stages before it that are not done.

    None if nothing is known, for example after a successful end.
    """
    submitted = submission.seen.submitted
    if name in submitted.slurm:
        ended = [one for one, state in unfinished.items() if state not in ALIVE]
        return _on_slurm(submission, name, _first(ended, submitted.slurm))
    if name in submitted.here:
        return _on_this_machine(submission, name, _first(unfinished, submitted.here))
    return _recorded(submission, name)


def is_alive(submission: Submission, name: str) -> bool:
    """Whether the job of a stage is known to be queued or running."""
    submitted, supervisor = submission.seen.submitted, submission.supervisor
    if name in submitted.slurm:
        elements = submission.queue.elements.get(submitted.slurm[name], ())
        return any(one.alive for one in elements) and not _has_ended_since(submission, name)
    if name not in submitted.here or supervisor is None or not supervisor.alive:
        return False
    order = [*submitted.here]  # one job after the other
    return all(submitted.here[later] is None for later in order[order.index(name) + 1 :])


def has_begun(submission: Submission, name: str) -> bool:
    """Whether the job of a stage was submitted last, and has no reason to wait for another one."""
    submitted = submission.seen.submitted
    elements = submission.queue.elements.get(submitted.slurm.get(name, ""), ())
    if any(element.alive and "Dependency" in element.reason for element in elements):
        return False
    return name in submitted.slurm or submitted.here.get(name) is not None


def _first(names: Iterable[str], among: Mapping[str, object]) -> str | None:
    return next((name for name in names if name in among), None)


def _on_slurm(submission: Submission, name: str, before: str | None) -> JobStatus | None:
    job, queue = submission.seen.submitted.slurm[name], submission.queue
    elements = queue.elements.get(job, ())
    recorded = _recorded(submission, name)
    if is_alive(submission, name):
        return _alive(submission, name, [element for element in elements if element.alive])
    if not recorded and _has_ended_since(submission, name):  # it is done
        return None
    doubt = queue.unknown(job)
    if recorded and not (doubt and name != _TRAIN):  # of an array, other tasks may still run
        return recorded
    ends = elements or queue.ends(job)
    after = f"{before}, before it, did not succeed" if before else None
    if bad := [element for element in ends if element.state in ENDED_BADLY]:
        return _ended(submission, name, bad, after)
    if doubt:
        return _unknown(submission, name, doubt, recorded)
    if ends and all(element.state == "COMPLETED" for element in ends):
        return None
    return _vanished(submission, name, job, after)


def _has_ended_since(submission: Submission, name: str) -> bool:
    """Whether the exit trap of the training has recorded its end since the queue was asked."""
    row, asked = _last_decision(submission, name), submission.queue.time
    return bool(name == _TRAIN and row and asked and row["time"] > asked and not row["requeued"])


def _ended(
    submission: Submission, name: str, bad: Sequence[Element], after: str | None
) -> JobStatus:
    """The status of a job of which Slurm says that it, or a task of it, ended badly."""
    first = min(bad, key=lambda element: element.state == "CANCELLED")
    reason = f"Slurm: {first.state}" + ("" if first.reason == "None" else f", {first.reason}")
    return JobStatus(
        "cancelled" if first.state == "CANCELLED" else "failed",
        f"{after} ({reason})" if after else reason,
        first.ended,
        f"job {first.job}",
        logs.of_task(submission.seen.run.job_logs(name), first.job),
    )


def _unknown(
    submission: Submission, name: str, doubt: str, recorded: JobStatus | None
) -> JobStatus:
    """The status of a job that Slurm says nothing about: the time is that of its last line in a log."""
    job = submission.seen.submitted.slurm[name]
    log = logs.newest(submission.seen.run.job_logs(name), job)
    reason = f"{doubt}; a task has {recorded.state}: {recorded.reason}" if recorded else doubt
    return JobStatus("unknown", reason, log.stat().st_mtime if log else None, f"job {job}", log)


def _alive(submission: Submission, name: str, alive: Sequence[Element]) -> JobStatus:
    """The status of a job that is queued or running."""
    pending = [element for element in alive if element.state == "PENDING"]
    running = [element for element in alive if element.state != "PENDING"]
    task = min(running or pending, key=lambda element: element.started or element.submitted or 0.0)
    log = logs.of_task(submission.seen.run.job_logs(name), task.job)
    ended = _recorded(submission, name)
    row = _last_decision(submission, name)
    asked = submission.queue.time
    if running and name == _TRAIN and row and row["requeued"] and asked and row["time"] > asked:
        reason = f"requeued after {row['reason']}; Slurm: not asked since"
        return JobStatus("queued", reason, row["time"], f"job {task.job}", log)
    if running:
        remarks = (
            [_NOT_RUNNING.get(task.state, task.state.lower())] if task.state != "RUNNING" else []
        )
        if pending:
            remarks.append(f"other tasks are pending: {reasons.told(pending[0].reason)}")
        if ended:
            remarks.append(f"a task has {ended.state}: {ended.reason}")
        return JobStatus(
            "running",
            "; ".join(remarks) or None,
            task.started,
            f"job {task.job}",
            log,
            running=len(running),
            ends=task.ended,
        )
    reason, since = reasons.told(task.reason), task.submitted
    if row and row["requeued"]:
        reason, since = f"requeued after {row['reason']}; {reason}", row["time"]
    remedy = reasons.remedy(task.reason, task.job)
    return JobStatus(
        "queued", reason, since, f"job {task.job}", log, starts=task.started, remedy=remedy
    )


def _vanished(submission: Submission, name: str, job: str, after: str | None) -> JobStatus | None:
    """The status of a job that Slurm forgot and that recorded no end; None if all tasks succeeded."""
    folder = submission.seen.run.job_logs(name)
    if _all_succeeded(submission.seen.run, name, job):
        return None
    log = logs.newest(folder, job)
    if log is None:
        reason = "left Slurm's queue before it started, as after scancel"
        return JobStatus("cancelled", after or reason, None, f"job {job}")
    return JobStatus(
        "failed",
        "ended without recording a reason: its node was lost, or it was killed while ending",
        log.stat().st_mtime,
        f"job {job}",
        log,
    )


def _all_succeeded(run: Run, name: str, job: str) -> bool:
    """Whether each task of a job on Slurm left the mark of its success."""
    folder, record = run.job_logs(name), run.submitted_tasks(name, job)
    if record.is_file():
        # Counted: a plain script need not have the indices from 0 on.
        count: int = read_json(record)["elements"]
        return len([*folder.glob(f"{job}_*done")]) >= count
    # submitted by an earlier version
    old = {
        path.name.removesuffix("_submitted.pkl") for path in folder.glob(f"{job}_*submitted.pkl")
    }
    return bool(old) and all(any(folder.glob(f"{task}_*_result.pkl")) for task in old)


def _on_this_machine(submission: Submission, name: str, before: str | None) -> JobStatus | None:
    supervisor, started = submission.supervisor, submission.seen.submitted.here[name]
    process = f"process {supervisor.number}" if supervisor else None
    alive = supervisor is not None and supervisor.alive
    if before:
        return JobStatus("queued", f"after {before}", submission.time, process) if alive else None
    if alive and started is None:
        return JobStatus("queued", "its process is starting", submission.time, process)
    log = logs.newest(submission.seen.run.job_logs(name), since=started or 0.0)
    if is_alive(submission, name):
        running, queued = submission.seen.submitted.tasks.get(name, (0, 0))
        remarks = [f"tasks that are queued: {queued:,}"] if queued else []
        if ended := _recorded(submission, name):
            remarks.append(f"a task has {ended.state}: {ended.reason}")
        reason = "; ".join(remarks) or None
        return JobStatus("running", reason, started, process, log, running=running)
    if recorded := _recorded(submission, name):
        return replace(recorded, log=recorded.log or log)
    if supervisor is None or alive:
        return None
    if (node := submission.seen.submitted.node) not in (None, socket.gethostname()):
        return JobStatus("unknown", f"{process} runs on {node}; ask there", started, process)
    reason = f"{process}, which was running it, was killed, or its machine went down"
    return JobStatus("interrupted", reason, started, process, log)


def _recorded(submission: Submission, name: str) -> JobStatus | None:
    """The recorded end of a job: a user's mistake, or the last decision."""
    folder = submission.seen.run.job_logs(name)
    row = _last_decision(submission, name)
    if mistake := submission.seen.mistakes.get(name):
        task = _task(mistake.job)
        job = f"job {task}" if name in submission.seen.submitted.slurm else None
        return JobStatus("failed", mistake.message, mistake.time, job, logs.of_task(folder, task))
    if row is None or row["requeued"] or row["reason"] == "done":
        return None
    reason, task = row["reason"], _task(row["job"])
    state: State = "failed"
    if reason == decisions.CANCELLED:
        state, reason = "cancelled", "by its user: cancel, scancel, Ctrl-C or kill"
    elif reason.startswith(f"{decisions.STOPPED}: "):
        state, reason = "stopped", reason.removeprefix(f"{decisions.STOPPED}: ")
    job = f"job {task}" if name in submission.seen.submitted.slurm else None
    return JobStatus(state, reason, row["time"], job, logs.of_task(folder, task))


def _last_decision(submission: Submission, name: str) -> decisions.RequeueRecord | None:
    """The last decision on the present start of a job; for an array a final one takes precedence."""
    since = submission.since(name)
    rows = [
        row
        for row in submission.seen.decisions
        if row["name"] == name and row["time"] > since and decisions.is_of_last_start(row)
    ]
    final = [row for row in rows if not row["requeued"] and row["reason"] != "done"]
    rows = final if name != "train" and final else rows
    return rows[-1] if rows else None


def _task(token: str) -> str:
    """The task in the token of a start: ID or ARRAY_INDEX on Slurm, NAME-TASK on this machine."""
    job = job_of(token)
    return job.rsplit("-", 1)[0] if "-" in job else job
