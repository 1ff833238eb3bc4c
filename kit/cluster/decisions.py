"""Decisions on whether a job that has ended starts again: made on evidence, and recorded.

For the training job the evidence is in its attempt: `end.json` has its outcome; without that file the
attempt crashed, or hung if there is a `hang.json`. A SIGTERM without preemption and without a time limit
near is the user's scancel: never requeued. Nor is a start that Slurm took for lost, if it ends while a
newer one runs or waits. On Slurm the exit trap decides (kit/cluster/requeue.py), else the supervisor.

The exit trap must be quick and imports this module: slow imports, such as pydantic, are made only if a
decision depends on them, after a crash.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from kit.cluster import time_limits
from kit.errors import DONE as SUCCESS
from kit.output import log, quantities
from kit.store import records
from kit.store.files import append_line, read_json
from kit.store.job_tokens import job_of, restarts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kit.cluster.state import JobState
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

Resources = Literal["network", "arrays", "single"]

CRASH, HANG, FAILURE, STOPPED, CANCELLED = "crash", "hang", "failed", "stopped", "cancelled"
PREEMPTION, DONE = "preemption", "done"
PREFLIGHT = "preflight"  # a check before the attempt found a node unfit
BY_SLURM, _SUPERSEDED = "requeued by Slurm", "superseded by a newer attempt"
_RESUMABLE = (
    "download",
    "fingerprint",
    "deduplicate",
    "preprocess",
    "count",
    "candidates",
    "tokenize",
)
_LIMIT_NEAR = 120  # seconds: SIGTERM comes at the limit, USR2 as a warning up to 90 s before


class RequeueRecord(TypedDict):
    """A decision as a line of `requeues.jsonl`."""

    time: float  # Unix
    job: str  # the token of the start that ended
    name: str
    requeued: bool
    reason: str
    progress: list[int]  # attempt and step of the newest checkpoint
    nodes: NotRequired[list[str]]
    successor: NotRequired[str]  # id of the job that was submitted, where Slurm refused to requeue
    unfit: NotRequired[list[str]]  # those of them that a check names


@dataclass(frozen=True)
class Decision:
    """Whether the job starts again, and the reason as `status` shows it."""

    requeue: bool
    reason: str
    unfit: tuple[str, ...] = ()  # nodes that a check names


def decide_training(
    run: Run, cluster: Callable[[], Cluster], job: str, exit_code: int, slurm: JobState
) -> Decision:
    """Decide on the training job; `job` is the token of the start that has just ended.

    `cluster` is called only if the decision depends on it.
    """
    if failure := mistake(run, "train", job):
        return Decision(False, failure)
    own = _end(run, job)
    outcome = own["outcome"] if own is not None else None
    if outcome == "done":
        return Decision(False, DONE)
    if outcome == "superseded":
        return Decision(False, _SUPERSEDED)
    if own is not None and outcome in ("stopped", "failed"):
        return Decision(False, f"{outcome}: {own['reason']}")
    if own is not None and own["reason"] == records.BY_USER:
        return Decision(False, CANCELLED)
    if ended := _ended_by_slurm(job, slurm):
        return _at_limit(run, cluster, job) if ended.reason == time_limits.REASON else ended
    if slurm.preempted:
        return Decision(True, PREEMPTION)
    if own is None and (unfit := _unfit(run, job)):
        return _after_preflight(run, cluster, job, unfit)
    hang = _hang(run, job) if own is None else None
    near = slurm.seconds_left is not None and slurm.seconds_left < _LIMIT_NEAR
    if (near and hang is None) or (own is not None and own["reason"] == time_limits.REASON):
        return _at_limit(run, cluster, job)
    if own is not None and own["reason"] == records.WARNED:
        return Decision(True, own["reason"])
    if own is not None:
        return Decision(False, CANCELLED)
    failures = _failures_without_progress(run, job)
    if failures > cluster().training.failures:
        text = (
            f"{quantities.count(failures, 'time')} without a new checkpoint (exit code {exit_code})"
        )
        return Decision(False, f"{hang or CRASH}, {text}")
    return Decision(True, hang or f"{CRASH} (exit code {exit_code})")


def _after_preflight(
    run: Run, cluster: Callable[[], Cluster], job: str, unfit: Mapping[str, str]
) -> Decision:
    """Requeue, as other nodes may do; a node named again could not be left out, and that is a failure."""
    reason = f"{PREFLIGHT} ({'; '.join(f'{node}: {why}' for node, why in sorted(unfit.items()))})"
    again = [row for row in _since_progress(run, job) if {*unfit} & {*row.get("unfit", ())}]
    failures = len(again) + _failures_without_progress(run, job) - 1
    if failures > cluster().training.failures:
        text = f"{reason}, {quantities.count(failures, 'time')} without another node"
        return Decision(False, text, tuple(unfit))
    return Decision(True, reason, tuple(unfit))


def decide_task(
    run: Run,
    cluster: Callable[[], Cluster],
    name: str,
    job: str,
    exit_code: int,
    slurm: JobState,
    resources: Resources = "arrays",
) -> Decision:
    """Decide on a task of an array job; `resources` is the cluster's section with its retries."""
    if exit_code == SUCCESS:
        return Decision(False, DONE)
    if failure := mistake(run, name):
        return Decision(False, failure)
    ended = _ended_by_slurm(job, slurm)
    # A task of many units makes progress by the time limit; a job of one would restart forever.
    at_limit = ended is not None and ended.reason == time_limits.REASON
    if at_limit and name in _RESUMABLE:
        return _task_at_limit(run, cluster, name, job, resources)
    if ended is not None and not at_limit:
        return ended
    if slurm.preempted:
        return Decision(True, PREEMPTION)
    jobs = _predecessors(run, job)
    failures = 1 + sum(
        row["reason"].startswith(FAILURE) and job_of(row["job"]) in jobs for row in read(run)
    )
    why = f"exit code {exit_code}" + (f", {time_limits.REASON}" if at_limit else "")
    if failures > cluster().resources_of(resources).retries:
        more = f"; {_raise_limit(cluster(), resources)}" if at_limit else ""
        return Decision(False, f"{FAILURE} {quantities.count(failures, 'time')} ({why}){more}")
    return Decision(True, f"{FAILURE} ({why})")


def _at_limit(run: Run, cluster: Callable[[], Cluster], job: str) -> Decision:
    """The decision on the training job after a time limit."""
    times = time_limits.fruitless(read(run), _progress(run), _predecessors(run, job))
    if times < time_limits.STARTS:
        return Decision(True, time_limits.REASON)
    return Decision(False, time_limits.remedy(cluster().training, times))


def _task_at_limit(
    run: Run, cluster: Callable[[], Cluster], name: str, job: str, resources: Resources
) -> Decision:
    """The decision on a task of many units after a time limit: it must get on."""
    if time_limits.finished_a_unit(run, name, job):
        return Decision(True, time_limits.REASON)
    jobs, times = _predecessors(run, job), 1
    for row in read(run):
        if row["name"] == name and job_of(row["job"]) in jobs:
            times = times + 1 if row["reason"] == time_limits.NO_UNIT else 1
    if times < time_limits.STARTS:
        return Decision(True, time_limits.NO_UNIT)
    return Decision(
        False, f"{time_limits.NO_UNIT}, {times} times; {_raise_limit(cluster(), resources)}"
    )


def _raise_limit(cluster: Cluster, resources: Resources) -> str:
    """The key with the time limit of a task, and a value to try."""
    minutes = cluster.resources_of(resources).minutes
    section = "arrays" if resources == "network" and cluster.network is None else resources
    return f"raise cluster.{section}.minutes={minutes} to {2 * minutes} or more"


def _ended_by_slurm(job: str, slurm: JobState) -> Decision | None:
    """The decision if the job did not leave on its own, else None."""
    # Before the job's state: that may be of a newer start, running on another node.
    if slurm.restarts > restarts_of(job):
        return Decision(False, BY_SLURM)
    if slurm.state == "RUNNING":
        return None
    if slurm.preempted:  # Slurm ended it after the grace time, or at once
        return Decision(True, PREEMPTION)
    if slurm.reason == "TimeLimit":
        return Decision(True, time_limits.REASON)
    return Decision(False, CANCELLED)


def _predecessors(run: Run, job: str) -> set[str]:
    """The id of a job, and those of the jobs that it is a successor of."""
    jobs = {job_of(job)}
    for row in reversed(read(run)):
        if row.get("successor") in jobs:
            jobs.add(job_of(row["job"]))
    return jobs


def restart(run: Run, job: str) -> RequeueRecord | None:
    """The record of a start that has been requeued, or has a successor; None if it has neither."""
    return next((row for row in reversed(read(run)) if row["job"] == job and row["requeued"]), None)


def mistake(run: Run, name: str, job: str | None = None) -> str | None:
    """The message of a user's mistake that ended a job (the start of that token, if given), or None."""
    path = run.mistake(name)
    if not path.is_file():
        return None
    error: dict[str, str] = read_json(path)
    return error["message"] if job in (None, error["job"]) else None


def record(
    run: Run,
    job: str,
    name: str,
    decision: Decision,
    nodes: Sequence[str] = (),
    successor: str | None = None,
) -> None:
    """Append a decision to the run's record; `nodes` are those of the job, `successor` a job's id."""
    row: RequeueRecord = {
        "time": time.time(),
        "job": job,
        "name": name,
        "requeued": decision.requeue,
        "reason": decision.reason,
        "progress": _progress(run),
        "nodes": list(nodes),
    }
    if successor is not None:
        row["successor"] = successor
    if decision.unfit:
        row["unfit"] = list(decision.unfit)
    try:
        append_line(run.requeues, json.dumps(row, ensure_ascii=False))
    except OSError as error:  # a full disk may have ended the job, which is requeued all the same
        log.warning(f"{run.requeues}: not written ({error.strerror})")


def publish_end(run: Run, decision: Decision) -> None:
    """Set the final status in MLflow if training has ended for good, which no attempt can know."""
    over = not (decision.requeue or decision.reason in (DONE, BY_SLURM, _SUPERSEDED))
    if not over or not _publishes(run):
        return
    from kit.config.recipe import Recipe
    from kit.config.section import read_resolved
    from kit.tracking.mlflow.publishing import publish

    recipe = read_resolved(run.recipe, Recipe)

    by_user = decision.reason == CANCELLED or decision.reason.startswith(STOPPED)
    if problem := publish(run, recipe, "KILLED" if by_user else "FAILED"):
        log.warning(f"mlflow: {problem}")


def publish_wait(run: Run, decision: Decision) -> None:
    """Tell MLflow that a run waits for its next attempt, in a process that the caller need not wait for.

    The process beside the training could not if it was killed together with its rank. The node is held
    until that process ends, so it has no patience with MLflow.
    """
    if not (decision.requeue and _publishes(run)):
        return
    from kit.tracking.mlflow import cursor
    from kit.tracking.mlflow.beside import Publishing

    if cursor.status(run) not in (None, "SCHEDULED"):
        Publishing(run, patience=0.0).close(0.0)


def _publishes(run: Run) -> bool:
    """Whether the jobs of a run publish its training to MLflow."""
    tracking = read_json(run.recipe).get("tracking", {})
    by_job = tracking.get("mlflow") is not None and tracking.get("mlflow_by", "job") == "job"
    return by_job and run.attempts.is_dir()


def read(run: Run) -> list[RequeueRecord]:
    """All decisions of a run, in order."""
    path = run.requeues
    if not path.is_file():
        return []
    rows: list[RequeueRecord] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # cut by a crash, or by two nodes writing at once
            rows.append(json.loads(line))
    return rows


def is_of_last_start(row: RequeueRecord) -> bool:
    """Whether a decision concerns the last start of its job, not one replaced by a newer start."""
    return concerns_last_start(row["reason"])


def concerns_last_start(reason: str) -> bool:
    """The same, by the reason of a decision."""
    return reason not in (BY_SLURM, _SUPERSEDED)


def verdict(decisions: Sequence[RequeueRecord], since: float) -> str | None:
    """Why the training job submitted at `since`, a Unix time, ended early; None if it did not."""
    rows = [
        row
        for row in decisions
        if row["name"] == "train" and row["time"] > since and is_of_last_start(row)
    ]
    if not rows or rows[-1]["requeued"] or rows[-1]["reason"] == DONE:
        return None
    return rows[-1]["reason"].removeprefix(f"{STOPPED}: ")


def end_reason(run: Run, job: str) -> str | None:
    """The reason for which the attempt with that token left; None after a crash."""
    end = _end(run, job)
    return end["reason"] if end is not None else None


def _end(run: Run, job: str) -> records.End | None:
    """The end of the attempt with that token; None after a crash."""
    for attempt in reversed(run.claimed_attempts()):
        end = records.end(attempt)
        if end is not None and end["job"] == job:
            return end
    return None


def _hang(run: Run, job: str) -> str | None:
    """The hang for which the attempt with that token ended itself, as a reason; or None."""
    for attempt in reversed(run.claimed_attempts()):
        if attempt.hang.is_file():
            note = read_json(attempt.hang)
            if note["job"] == job:
                return f"{HANG} (rank {note['rank']}, {note['what']})"
    return None


def _unfit(run: Run, job: str) -> dict[str, str]:
    """The nodes that were found unfit before the start of that token, and why."""
    records_ = (read_json(path) for path in run.preflights("train", job))
    return {
        one["node"]: next(
            f"{c['name']}: {c['found']}" for c in one["checks"] if c["result"] == "bad"
        )
        for one in records_
        if one["verdict"] == "bad"
    }


def _progress(run: Run) -> list[int]:
    """Attempt and step of the newest checkpoint: a greater one resets the count of crashes."""
    checkpoints = run.committed_checkpoints().values()
    return max(([attempt, step] for step, attempt in checkpoints), default=[0, 0])


def _failures_without_progress(run: Run, job: str) -> int:
    """The number of failures since the newest checkpoint, including the present one."""
    rows = _since_progress(run, job)
    return 1 + sum(row["reason"].startswith((CRASH, HANG)) for row in rows)


def _since_progress(run: Run, job: str) -> list[RequeueRecord]:
    """The decisions on earlier starts of the training job since the newest checkpoint."""
    progress = _progress(run)
    jobs = _predecessors(run, job)
    return [
        row
        for row in read(run)
        if row["name"] == "train" and job_of(row["job"]) in jobs and row["progress"] >= progress
    ]
