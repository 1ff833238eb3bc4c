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

from kit.errors import DONE
from kit.output import log, quantities
from kit.store import records
from kit.store.files import append_line, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.cluster.state import JobState
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

Resources = Literal["network", "arrays", "single"]

CRASH, HANG, FAILURE, STOPPED, CANCELLED = "crash", "hang", "failed", "stopped", "cancelled"
_BY_SLURM, _SUPERSEDED = "requeued by Slurm", "superseded by a newer attempt"
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


@dataclass(frozen=True)
class Decision:
    """Whether the job starts again, and the reason as `status` shows it."""

    requeue: bool
    reason: str


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
        return Decision(False, "done")
    if outcome == "superseded":
        return Decision(False, _SUPERSEDED)
    if own is not None and outcome in ("stopped", "failed"):
        return Decision(False, f"{outcome}: {own['reason']}")
    if own is not None and own["reason"] == records.BY_USER:
        return Decision(False, CANCELLED)
    if ended := _ended_by_slurm(job, slurm):
        return ended
    if slurm.preempted:
        return Decision(True, "preemption")
    hang = _hang(run, job) if own is None else None
    near = slurm.seconds_left is not None and slurm.seconds_left < _LIMIT_NEAR
    if (near and hang is None) or (own is not None and own["reason"] == "time limit"):
        return Decision(True, "time limit")
    if own is not None:
        return Decision(False, CANCELLED)
    failures = _failures_without_progress(run, job)
    if failures > cluster().training.failures:
        text = (
            f"{quantities.count(failures, 'time')} without a new checkpoint (exit code {exit_code})"
        )
        return Decision(False, f"{hang or CRASH}, {text}")
    return Decision(True, hang or f"{CRASH} (exit code {exit_code})")


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
    if exit_code == DONE:
        return Decision(False, "done")
    if failure := mistake(run, name):
        return Decision(False, failure)
    ended = _ended_by_slurm(job, slurm)
    # A task of many units makes progress by the time limit; a job of one would restart forever.
    if ended is not None and (not ended.requeue or name in _RESUMABLE):
        return ended
    if slurm.preempted:
        return Decision(True, "preemption")
    failures = 1 + sum(
        row["reason"].startswith(FAILURE) and _job(row["job"]) == _job(job) for row in read(run)
    )
    if failures > cluster().resources_of(resources).retries:
        return Decision(
            False, f"{FAILURE} {quantities.count(failures, 'time')} (exit code {exit_code})"
        )
    return Decision(True, f"{FAILURE} (exit code {exit_code})")


def _ended_by_slurm(job: str, slurm: JobState) -> Decision | None:
    """The decision if the job did not leave on its own, else None."""
    # Before the job's state: that may be of a newer start, running on another node.
    if slurm.restarts > _restarts(job):
        return Decision(False, _BY_SLURM)
    if slurm.state == "RUNNING":
        return None
    if slurm.reason == "TimeLimit":
        return Decision(True, "time limit")
    return Decision(False, CANCELLED)


def _job(token: str) -> str:
    """The id of a job, of any of its starts."""
    return token.rsplit(".", 1)[0]


def _restarts(job: str) -> int:
    """The number of requeues before this start, by its token."""
    return int(job.rsplit(".", 1)[1])


def mistake(run: Run, name: str, job: str | None = None) -> str | None:
    """The message of a user's mistake that ended a job (the start of that token, if given), or None."""
    path = run.mistake(name)
    if not path.is_file():
        return None
    error: dict[str, str] = read_json(path)
    return error["message"] if job in (None, error["job"]) else None


def record(run: Run, job: str, name: str, decision: Decision, nodes: Sequence[str] = ()) -> None:
    """Append a decision to the run's record; `nodes` are those of the job."""
    row: RequeueRecord = {
        "time": time.time(),
        "job": job,
        "name": name,
        "requeued": decision.requeue,
        "reason": decision.reason,
        "progress": _progress(run),
        "nodes": list(nodes),
    }
    try:
        append_line(run.requeues, json.dumps(row, ensure_ascii=False))
    except OSError as error:  # a full disk may have ended the job, which is requeued all the same
        log.warning(f"{run.requeues}: not written ({error.strerror})")


def publish_end(run: Run, decision: Decision) -> None:
    """Set the final status in MLflow if training has ended for good, which no attempt can know."""
    over = not (decision.requeue or decision.reason in ("done", _BY_SLURM, _SUPERSEDED))
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
    return row["reason"] not in (_BY_SLURM, _SUPERSEDED)


def verdict(decisions: Sequence[RequeueRecord], since: float) -> str | None:
    """Why the training job submitted at `since`, a Unix time, ended early; None if it did not."""
    rows = [
        row
        for row in decisions
        if row["name"] == "train" and row["time"] > since and is_of_last_start(row)
    ]
    if not rows or rows[-1]["requeued"] or rows[-1]["reason"] == "done":
        return None
    return rows[-1]["reason"].removeprefix(f"{STOPPED}: ")


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


def _progress(run: Run) -> list[int]:
    """Attempt and step of the newest checkpoint: a greater one resets the count of crashes."""
    checkpoints = run.committed_checkpoints().values()
    return max(([attempt, step] for step, attempt in checkpoints), default=[0, 0])


def _failures_without_progress(run: Run, job: str) -> int:
    """The number of failures since the newest checkpoint, including the present one."""
    progress = _progress(run)
    failures = [
        row
        for row in read(run)
        if row["name"] == "train"
        and row["reason"].startswith((CRASH, HANG))
        and _job(row["job"]) == _job(job)
        and row["progress"] >= progress
    ]
    return 1 + len(failures)
