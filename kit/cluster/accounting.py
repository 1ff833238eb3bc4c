"""The ends of jobs that squeue has forgotten, from Slurm's accounting: sacct, run and parsed.

    records(["17", "18"])["17"][0].state

squeue forgets a job MinJobAge (300 s) after its end. Of a job that was requeued, accounting has a record
for each start. Only the newest counts: `sacct -X` alone says PREEMPTED even if the job runs again.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from kit.cluster import state
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.state import Element

_FORMAT = "--format=JobID,State,Submit,Start,End,Reason"
_ALL = ("--allocations", "--duplicates", "--parsable2", "--noheader")
_BY = "CANCELLED by "  # and the uid of whoever cancelled it


def records(ids: Sequence[str], patience: float = state.PATIENCE) -> dict[str, list[Element]]:
    """The newest record of each job, or element of an array, by the id of the job.

    Empty without accounting, and if it does not answer.
    """
    if not ids:
        return {}
    try:
        output = state.slurm("sacct", *_ALL, f"--jobs={','.join(ids)}", _FORMAT, patience=patience)
    except ClusterError:  # switched off, or slurmdbd is down: the files of the run remain
        return {}
    return newest(output)


def newest(output: str) -> dict[str, list[Element]]:
    """The newest record of each job in sacct's output, by the id of the job."""
    found: dict[str, Element] = {}
    for line in output.splitlines():
        one = _element(*line.split("|", 5))
        before = found.get(one.job)
        if before is None or (one.submitted or 0.0) >= (before.submitted or 0.0):
            found[one.job] = one
    by_job: dict[str, list[Element]] = {}
    for one in found.values():
        by_job.setdefault(one.job.split("_")[0], []).append(one)
    return by_job


def _element(job: str, status: str, submit: str, start: str, end: str, reason: str) -> Element:
    """A record as squeue would have shown it; the reason of a cancelled job names its user."""
    if status.startswith(_BY):
        reason = f"by {_user(status.removeprefix(_BY))}"
    words = status.split()
    submitted, started, ended = map(state.unix, (submit, start, end))
    state_word = words[0] if words else "UNKNOWN"
    return state.Element(job, state_word, reason, submitted, started, ended)


def _user(uid: str) -> str:
    if not uid.isdecimal():
        return uid
    if int(uid) == os.getuid():
        return "you"
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except KeyError:
        return f"the user {uid}"
