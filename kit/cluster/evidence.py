"""Evidence of how an attempt ended: its records beside `end.json`, its log, and whose SIGTERM it was.

A SIGTERM that the ranks get without a preemption is the user's scancel, which ends the job: it is
COMPLETING as the exit trap looks. If it is RUNNING, Slurm may have meant an earlier start: what it could
not tell a lost node it sends again, by the job's id, once the node is back, up to 90 s later. It ends
only a start that got that node since, so a recent one. `scancel --signal=TERM` in the first minutes after
a requeue looks the same: a job requeued by mistake can be cancelled again, a run that stopped by mistake
may stay unnoticed.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from kit.cluster.oom_killer import OomKill
from kit.store import records
from kit.store.files import read_json
from kit.store.job_tokens import job_of

if TYPE_CHECKING:
    from pathlib import Path

    from kit.cluster.state import JobState
    from kit.store.paths import Run

_SENT_AGAIN = 300  # seconds after a start: two tries of slurmctld, and a save
# Words of srun and slurmstepd, 20.02 to 24.11, about a task that the kernel killed at its memory limit.
_KILLED = re.compile(rb"^(srun|slurmstepd).*(Out Of Memory|oom[-_ ]kill event)", re.MULTILINE)
_TAIL = 1 << 16  # bytes of a log: those words come after all others


def is_stray(restarts: int, slurm: JobState) -> bool:
    """Whether a SIGTERM without a preemption was meant for an earlier start than that after `restarts`."""
    recent = slurm.seconds_run is not None and slurm.seconds_run < _SENT_AGAIN
    return slurm.state == "RUNNING" and restarts > 0 and recent


def hang(run: Run, job: str) -> str | None:
    """The hang for which the attempt with that token ended itself; or None."""
    for attempt in reversed(run.claimed_attempts()):
        if attempt.hang.is_file():
            note = read_json(attempt.hang)
            if note["job"] == job:
                return f"rank {note['rank']}, {note['what']}"
    return None


def unfit(run: Run, job: str) -> dict[str, str]:
    """The nodes that were found unfit before the start of that token, and why."""
    records = (read_json(path) for path in run.preflights("train", job))
    return {
        one["node"]: next(
            f"{c['name']}: {c['found']}" for c in one["checks"] if c["result"] == "bad"
        )
        for one in records
        if one["verdict"] == "bad"
    }


def oom_kill(run: Run, name: str, job: str, slurm: JobState) -> OomKill | None:
    """What was killed for its memory in the start of that token of a job; None if nothing was."""
    if slurm.oom is None and _killed_at_limit(run, name, job):
        return OomKill("the job", "killed at its memory limit")
    return slurm.oom


def does_not_fit(run: Run, oom: OomKill, more_memory: str) -> str:
    """The mistake of a run that cannot train; `more_memory` is what to do besides a lower micro-batch."""
    number = read_json(run.recipe)["training"]["micro_batch"]
    what = f"training.micro_batch={number}: {records.DOES_NOT_FIT} {oom.who}"
    return f"{what} ({oom.text}); lower it, {more_memory}"


def has_fitted(run: Run) -> bool:
    """Whether the run has made a step, and so fits into memory; a rehearsal asks whether all steps do.

    As in kit/training/attempt.py, which sees what torch is refused.
    """
    from kit.run.directory import is_rehearsal
    from kit.tracking import ledger

    if is_rehearsal(run):
        return False
    if run.committed_checkpoints():
        return True
    rows = (row for attempt in ledger.attempts(run) for row in ledger.rows(attempt))
    return any(row["kind"] == "step" for row in rows)


def _killed_at_limit(run: Run, name: str, job: str) -> bool:
    """Whether Slurm says that the start of that token of a job had a task killed at its memory limit."""
    folder = run.job_logs(name)
    # Of a job, its shell's; of a step that a job starts for itself (kit/cluster/steps.py), srun's.
    logs = (folder / f"{job_of(job)}_0_log.out", folder / "srun.out")
    return any(_KILLED.search(_of_start(log, job)) for log in logs if log.is_file())


def _of_start(log: Path, job: str) -> bytes:
    """The end of a log, as far as it is that of the start of that token."""
    with log.open("rb") as stream:
        stream.seek(-min(_TAIL, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        return stream.read().rpartition(f" job {job} on ".encode())[2]
