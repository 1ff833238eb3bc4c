"""The record of decisions on whether a job that has ended starts again: `requeues.jsonl`.

kit/cluster/restart_rules.py makes them. The exit trap must be quick and imports this module: slow imports,
such as pydantic, are made only where they are needed.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from kit.output import log
from kit.store import records
from kit.store.files import append_line, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.store.paths import Run

CRASH, HANG, FAILURE, STOPPED, CANCELLED = "crash", "hang", "failed", "stopped", "cancelled"
PREEMPTION, DONE = "preemption", "done"
STRAY = "SIGTERM"  # meant for an earlier start: kit/cluster/evidence.py
PREFLIGHT = "preflight"  # a check before the attempt found a node unfit
BY_SLURM, SUPERSEDED = "requeued by Slurm", "superseded by a newer attempt"


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
        "progress": progress(run),
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
    over = not (decision.requeue or decision.reason in (DONE, BY_SLURM, SUPERSEDED))
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
    return reason not in (BY_SLURM, SUPERSEDED)


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
    own = end(run, job)
    return own["reason"] if own is not None else None


def end(run: Run, job: str) -> records.End | None:
    """The end of the attempt with that token; None after a crash."""
    for attempt in reversed(run.claimed_attempts()):
        end = records.end(attempt)
        if end is not None and end["job"] == job:
            return end
    return None


def progress(run: Run) -> list[int]:
    """Attempt and step of the newest checkpoint: a greater one resets the count of crashes."""
    checkpoints = run.committed_checkpoints().values()
    return max(([attempt, step] for step, attempt in checkpoints), default=[0, 0])
