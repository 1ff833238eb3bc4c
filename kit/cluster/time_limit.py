"""Asks Slurm, or the supervisor of this machine, when a time limit ends: see kit/run/time_limit.py."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from kit.cluster import announced, jobs, state
from kit.errors import ClusterError
from kit.run import time_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.store.paths import Run


def begin(run: Run, name: str) -> None:
    """Let rank 0 of a training job ask; other ranks learn from it when to leave."""
    ask: Callable[[], float | None] | None = None
    if os.environ.get("RANK") == "0" and "SLURM_JOB_ID" in os.environ:
        ask = _end if os.environ.get(jobs.RESOURCES) == "training" else None
    elif os.environ.get("RANK") == "0" and time_limit.VARIABLE in os.environ:
        ask = partial(_end_here, run, name)
    time_limit.ask_by(ask)


def _end_here(run: Run, name: str) -> float:
    """The end that the supervisor has recorded."""
    end = announced.end_of(run, name)
    if end is None:
        raise time_limit.Unknown(f"{run.jobs}: has no end")
    return end


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
