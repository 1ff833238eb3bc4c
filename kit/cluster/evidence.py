"""Evidence of how an attempt ended: its records beside `end.json`, and whose SIGTERM it was.

A SIGTERM that the ranks get without a preemption is the user's scancel, which ends the job: it is
COMPLETING as the exit trap looks. If it is RUNNING, Slurm may have meant an earlier start: what it could
not tell a lost node it sends again, by the job's id, once the node is back, up to 90 s later. It ends
only a start that got that node since, so a recent one. `scancel --signal=TERM` in the first minutes after
a requeue looks the same: a job requeued by mistake can be cancelled again, a run that stopped by mistake
may stay unnoticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.store.files import read_json

if TYPE_CHECKING:
    from kit.cluster.state import JobState
    from kit.store.paths import Run

_SENT_AGAIN = 300  # seconds after a start: two tries of slurmctld, and a save


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
