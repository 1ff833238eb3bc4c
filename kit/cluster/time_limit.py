"""Asks Slurm when the time limit of this job ends: see kit/run/time_limit.py."""

from __future__ import annotations

import os

from kit.cluster import jobs, state
from kit.errors import ClusterError
from kit.run import time_limit


def begin() -> None:
    """Let rank 0 of a training job on Slurm ask; other ranks learn from it when to leave."""
    is_rank_0 = os.environ.get(jobs.RESOURCES) == "training" and os.environ.get("RANK") == "0"
    time_limit.ask_by(_end if is_rank_0 and "SLURM_JOB_ID" in os.environ else None)


def _end() -> float | None:
    try:
        return end_of(state.fields(state.own_id()), jobs.restarts())
    except ClusterError as error:
        raise time_limit.Unknown(str(error)) from None


def end_of(fields: dict[str, str], restarts: int) -> float | None:
    """The end in the fields of `scontrol show job`, as Unix time; None if there is no limit.

    Raises Unknown unless the job is running, after `restarts` requeues: a requeued one has another end.
    """
    if fields.get("JobState") != "RUNNING" or fields.get("Restarts", "0") != str(restarts):
        raise time_limit.Unknown(
            f"{fields.get('JobState')} after {fields.get('Restarts')} restarts"
        )
    if fields.get("TimeLimit") == "UNLIMITED":
        return None
    end = state.unix(fields.get("EndTime", ""))
    if end is None:
        raise time_limit.Unknown(f"EndTime={fields.get('EndTime')}")
    return end
