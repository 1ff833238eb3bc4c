"""Who requeues: the batch shell's exit trap, on evidence.

    python -m kit.cluster.requeue RUN JOB EXIT_CODE

It runs when srun has ended, however it ended. For the training job it reads what the attempt left
behind: `end.json` says done or interrupted, its absence means a crash. Not the ranks requeue, one of
them may be dead. Under preemption it does so at once: the node is free before the grace time is
over, and a job that left early without it would count as failed. A SIGTERM without preemption and
without a time limit near is the user's scancel: never requeued.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kit.cluster import launch, state
from kit.config import Cluster, read_resolved
from kit.errors import DONE, FAILED, ClusterError
from kit.files import append_line, read_json
from kit.workspace import Run

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CRASH, FAILURE = "crash", "failed"
_RESUMABLE = ("download", "preprocess", "tokenize")
_TRIES, _PAUSE = 240, 15  # times and seconds: an hour of a slurmctld that does not answer
_LIMIT_NEAR = 120  # seconds: SIGTERM comes at the limit, the warning by USR2 up to 90 s before


@dataclass(frozen=True)
class Decision:
    """Whether the job starts again, and why, in the words of `status`."""

    requeue: bool
    reason: str


def decide_training(
    run: Run, cluster: Cluster, job: str, exit_code: int, slurm: state.JobState
) -> Decision:
    """The decision for the training job; `job` is the token of the start that has just ended."""
    if failure := mistake(run, "train", job):
        return Decision(False, failure)
    own = _end(run, job)
    if own is not None and own["outcome"] == "done":
        return Decision(False, "done")
    if ended := _ended_by_slurm(job, slurm):
        return ended
    if slurm.preempted:
        return Decision(True, "preemption")
    near = slurm.seconds_left is not None and slurm.seconds_left < _LIMIT_NEAR
    if near or (own is not None and own["signal"] == "SIGUSR2"):
        return Decision(True, "time limit")
    if own is not None:
        return Decision(False, "cancelled")
    crashes = _crashes_without_progress(run, job)
    if crashes > cluster.training.failures:
        text = f"{CRASH}, {crashes} times without a new checkpoint (exit code {exit_code})"
        return Decision(False, text)
    return Decision(True, f"{CRASH} (exit code {exit_code})")


def decide_task(
    run: Run, cluster: Cluster, name: str, job: str, exit_code: int, slurm: state.JobState
) -> Decision:
    """The decision for a task of an array job."""
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
    if failures > cluster.arrays.retries:
        return Decision(False, f"{FAILURE} {failures} times (exit code {exit_code})")
    return Decision(True, f"{FAILURE} (exit code {exit_code})")


def _ended_by_slurm(job: str, slurm: state.JobState) -> Decision | None:
    """The decision where the job did not leave on its own, else None."""
    if slurm.state == "RUNNING":
        return None
    if slurm.restarts > _restarts(job):
        return Decision(False, "requeued by Slurm")
    if slurm.reason == "TimeLimit":
        return Decision(True, "time limit")
    return Decision(False, "cancelled")


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


def record(run: Run, job: str, name: str, decision: Decision) -> None:
    """Write a decision down in the run directory."""
    row = {"time": time.time(), "job": job, "name": name, "requeued": decision.requeue}
    row |= {"reason": decision.reason, "progress": _progress(run)}
    try:
        append_line(run.requeues, json.dumps(row, ensure_ascii=False))
    except OSError as error:  # a full disk may be why the job ended: it is requeued all the same
        print(f"{run.requeues}: not written ({error.strerror})", flush=True)


def recorded(run: Run) -> list[dict[str, Any]]:
    """All decisions of a run, in order."""
    path = run.requeues
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # cut by a crash, or by two nodes writing at once
            rows.append(json.loads(line))
    return rows


def main(run_root: str, name: str, exit_code: int) -> int:
    """The exit trap: decide, write it down, requeue; returns DONE where the job is done."""
    run = Run(Path(run_root))
    cluster = read_resolved(run.cluster, Cluster)
    job_id, token = state.own_id(), launch.token()
    decide = decide_training if name == "train" else functools.partial(decide_task, name=name)
    slurm = _patiently(lambda: state.job(job_id))
    decision = decide(run=run, cluster=cluster, job=token, exit_code=exit_code, slurm=slurm)
    if name == "train" or exit_code != DONE:
        record(run, token, name, decision)
    print(f"{name}: {decision.reason}{', requeued' if decision.requeue else ''}", flush=True)
    if decision.requeue:
        _requeue(job_id, decision.reason)
    return DONE if decision.reason == "done" else FAILED


def _patiently(ask: Callable[[], T]) -> T:
    """Ask Slurm, again while it does not answer: slurmctld may be busy, or being restarted."""
    for _ in range(_TRIES):
        try:
            return ask()
        except ClusterError as error:
            print(f"requeue: {error}; again in {_PAUSE} s", flush=True)
            time.sleep(_PAUSE)
    return ask()


def _requeue(job_id: str, reason: str) -> None:
    """Requeue the job this shell belongs to."""
    # Slurm's own record says REQUEUED, whatever the reason was: the comment tells it.
    comment = f"comment=ekiden: {reason}, requeued"
    try:
        state.slurm("scontrol", "update", f"jobid={job_id}", comment)
    except ClusterError as error:  # a site may not allow it: it is only a word
        print(f"requeue: {error}", flush=True)
    _patiently(lambda: state.slurm("scontrol", "requeue", job_id))
    time.sleep(60)  # the requeue ends this shell: leaving on its own, the job would count as failed


def _end(run: Run, job: str) -> dict[str, Any] | None:
    """How the attempt of that token ended; None after a crash."""
    for attempt in reversed(run.claimed_attempts()):
        if attempt.end.is_file():
            found: dict[str, Any] = read_json(attempt.end)
            if found["job"] == job:
                return found
    return None


def _progress(run: Run) -> list[int]:
    """Attempt and step of the newest checkpoint: a greater one renews the budget of crashes."""
    made = run.committed_checkpoints().values()
    return max(([attempt, step] for step, attempt in made), default=[0, 0])


def _crashes_without_progress(run: Run, job: str) -> int:
    """The crash that has just been, and those of this job since the newest checkpoint was made."""
    here = _progress(run)
    crashes = [
        row
        for row in recorded(run)
        if row["name"] == "train"
        and row["reason"].startswith(CRASH)
        and _job(row["job"]) == _job(job)
        and row["progress"] >= here
    ]
    return 1 + len(crashes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
