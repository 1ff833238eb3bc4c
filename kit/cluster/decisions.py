"""Whether a job starts again when it has ended, and why: decided on evidence, and put on record.

For the training job it is what the attempt left behind: `end.json` says how it ended, its absence means
a crash, or a hang where there is a `hang.json`. A SIGTERM without preemption and without a time limit near
is the user's scancel: never requeued. Nor is a start that Slurm took for lost, and that ends while a newer
one lives or waits. Who decides: on Slurm the exit trap (kit/cluster/requeue.py), else the supervisor.

The exit trap is quick, and imports this: what takes long to import, pydantic among it, is imported where a
decision depends on it, after a crash.
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
_RESUMABLE = ("download", "preprocess", "tokenize")
_LIMIT_NEAR = 120  # seconds: SIGTERM comes at the limit, the warning by USR2 up to 90 s before


class RequeueRecord(TypedDict):
    """A decision, as a line of `requeues.jsonl` holds it."""

    time: float  # Unix
    job: str  # the token of the start that ended
    name: str
    requeued: bool
    reason: str
    progress: list[int]  # attempt and step of the newest checkpoint
    nodes: NotRequired[list[str]]


@dataclass(frozen=True)
class Decision:
    """Whether the job starts again, and why, in the words of `status`."""

    requeue: bool
    reason: str


def decide_training(
    run: Run, cluster: Callable[[], Cluster], job: str, exit_code: int, slurm: JobState
) -> Decision:
    """The decision for the training job; `job` is the token of the start that has just ended.

    The cluster is asked for only where the decision depends on it.
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
    """The decision for a task of an array job, which has its retries from that section of the cluster."""
    if exit_code == DONE:
        return Decision(False, "done")
    if failure := mistake(run, name):
        return Decision(False, failure)
    ended = _ended_by_slurm(job, slurm)
    # A task of many units has got on by the time limit; a job of one would begin anew for ever.
    if ended is not None and (not ended.requeue or name in _RESUMABLE):
        return ended
    if slurm.preempted:
        return Decision(True, "preemption")
    failures = 1 + sum(
        row["reason"].startswith(FAILURE) and _job(row["job"]) == _job(job) for row in recorded(run)
    )
    if failures > cluster().resources_of(resources).retries:
        return Decision(
            False, f"{FAILURE} {quantities.count(failures, 'time')} (exit code {exit_code})"
        )
    return Decision(True, f"{FAILURE} (exit code {exit_code})")


def _ended_by_slurm(job: str, slurm: JobState) -> Decision | None:
    """The decision where the job did not leave on its own, else None."""
    # Whatever the job's state is: it may be the state of a newer start, running on another node.
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
    """How often a job was requeued before this start, by its token."""
    return int(job.rsplit(".", 1)[1])


def mistake(run: Run, name: str, job: str | None = None) -> str | None:
    """The user's mistake that ended a job (of that token, if given), or None."""
    path = run.mistake(name)
    if not path.is_file():
        return None
    found: dict[str, str] = read_json(path)
    return found["message"] if job in (None, found["job"]) else None


def record(run: Run, job: str, name: str, decision: Decision, where: Sequence[str] = ()) -> None:
    """Write a decision down in the run directory; `where` are the nodes of the job."""
    row: RequeueRecord = {
        "time": time.time(),
        "job": job,
        "name": name,
        "requeued": decision.requeue,
        "reason": decision.reason,
        "progress": _progress(run),
        "nodes": list(where),
    }
    try:
        append_line(run.requeues, json.dumps(row, ensure_ascii=False))
    except OSError as error:  # a full disk may be why the job ended: it is requeued all the same
        log.warning(f"{run.requeues}: not written ({error.strerror})")


def show_end(run: Run, decision: Decision) -> None:
    """Have MLflow show a training job that ended for good: no attempt knows whether it was the last."""
    over = not (decision.requeue or decision.reason in ("done", _BY_SLURM, _SUPERSEDED))
    if not over or not run.attempts.is_dir():
        return
    if read_json(run.recipe).get("tracking", {}).get("mlflow") is None:
        return
    from kit.config.recipe import Recipe
    from kit.config.section import read_resolved
    from kit.tracking import mlflow

    recipe = read_resolved(run.recipe, Recipe)

    by_user = decision.reason == CANCELLED or decision.reason.startswith(STOPPED)
    if problem := mlflow.publish(run, recipe, "KILLED" if by_user else "FAILED"):
        log.warning(f"mlflow: {problem}")


def recorded(run: Run) -> list[RequeueRecord]:
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
    """Whether a decision is on the last start of its job, not on one that a newer start has replaced."""
    return row["reason"] not in (_BY_SLURM, _SUPERSEDED)


def verdict(decisions: Sequence[RequeueRecord], since: float) -> str | None:
    """Why the training job that was submitted at a Unix time ended before its last step, if it did."""
    rows = [
        row
        for row in decisions
        if row["name"] == "train" and row["time"] > since and is_of_last_start(row)
    ]
    if not rows or rows[-1]["requeued"] or rows[-1]["reason"] == "done":
        return None
    return rows[-1]["reason"].removeprefix(f"{STOPPED}: ")


def _end(run: Run, job: str) -> records.End | None:
    """How the attempt of that token ended; None after a crash."""
    for attempt in reversed(run.claimed_attempts()):
        found = records.end(attempt)
        if found is not None and found["job"] == job:
            return found
    return None


def _hang(run: Run, job: str) -> str | None:
    """What had no end, so that the attempt of that token ended itself, in words; or None."""
    for attempt in reversed(run.claimed_attempts()):
        if attempt.hang.is_file():
            found = read_json(attempt.hang)
            if found["job"] == job:
                return f"{HANG} (rank {found['rank']}, {found['what']})"
    return None


def _progress(run: Run) -> list[int]:
    """Attempt and step of the newest checkpoint: a greater one renews the budget of crashes."""
    made = run.committed_checkpoints().values()
    return max(([attempt, step] for step, attempt in made), default=[0, 0])


def _failures_without_progress(run: Run, job: str) -> int:
    """The failure that has just been, and those of this job since the newest checkpoint was made."""
    here = _progress(run)
    failures = [
        row
        for row in recorded(run)
        if row["name"] == "train"
        and row["reason"].startswith((CRASH, HANG))
        and _job(row["job"]) == _job(job)
        and row["progress"] >= here
    ]
    return 1 + len(failures)
