"""The status of a run in MLflow, from the files of its run directory.

RUNNING during an attempt, SCHEDULED while the run waits for its next one, then FINISHED, FAILED, or KILLED
if its user ended it. Every publisher derives it from the same files, so it does not matter who is last.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Literal, get_args

from kit.store import records
from kit.store.files import read_json
from kit.tracking import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Result

Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
STATUSES: tuple[Status, ...] = get_args(Status)
ENDED: tuple[Status, ...] = ("FINISHED", "FAILED", "KILLED")

_OF_OUTCOME: dict[str, Status] = {
    "done": "FINISHED", "interrupted": "SCHEDULED", "stopped": "KILLED", "failed": "FAILED",
    "superseded": "RUNNING",  # a newer attempt is running
}  # fmt: skip
_TAIL = 1 << 16  # bytes that hold the last row of a ledger


def of_files(run: Run) -> Status:
    """The status that the files tell; RUNNING also if the last attempt was killed together with its job."""
    attempts = ledger.attempts(run)
    if not attempts:
        return "SCHEDULED"
    last = attempts[-1]
    since = records.start(last)["time"]
    decision = _decision(run, since)
    if decision is not None:
        return _of_decision(run, decision)
    end = end_of(last)
    return "RUNNING" if end is None else _OF_OUTCOME[end["outcome"]]


def end_of(attempt: Attempt) -> Result | None:
    """The end of an attempt: from `end.json`, or from the ledger, to which it is written first."""
    if end := records.end(attempt):
        return end
    row: Any = _last_row(attempt)
    return row if row.get("kind") == "end" else None


def _last_row(attempt: Attempt) -> dict[str, Any]:
    if not attempt.ledger.is_file():
        return {}
    with attempt.ledger.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
        lines = stream.read().splitlines(keepends=True)
    with contextlib.suppress(IndexError, ValueError):  # empty, or cut off by a crash
        row: dict[str, Any] = json.loads(lines[-1])
        return row
    return {}


def _decision(run: Run, since: float) -> dict[str, Any] | None:
    """The last decision on the training job after that time (kit/cluster/decisions.py), if it counts."""
    rows = [
        row
        for row in _decisions(run)
        if row["name"] == "train" and row["time"] > since and row["reason"] not in _OF_OLDER_STARTS
    ]
    return rows[-1] if rows else None


_OF_OLDER_STARTS = ("requeued by Slurm", "superseded by a newer attempt")


def _decisions(run: Run) -> Iterator[dict[str, Any]]:
    if run.requeues.is_file():
        for line in run.requeues.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # cut by a crash
                yield json.loads(line)


def _of_decision(run: Run, row: dict[str, Any]) -> Status:
    if row["reason"] == "done":
        return "FINISHED"
    if row["requeued"] or _submitted_after(run, row["time"]):
        return "SCHEDULED"
    by_user = row["reason"] == "cancelled" or row["reason"].startswith("stopped")
    return "KILLED" if by_user else "FAILED"


def _submitted_after(run: Run, time: float) -> bool:
    """Whether the training was submitted again after that time."""
    if not run.jobs.is_file():
        return False
    jobs = read_json(run.jobs)
    names = {*jobs.get("slurm", {}), *(job["name"] for job in jobs.get("local", ()))}
    sent = jobs.get("sent", {}).get("train", jobs)  # before the others, if it was queued already
    return "train" in names and bool(sent.get("time", 0.0) > time)
