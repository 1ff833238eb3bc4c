"""The interruptions that a run has survived: ends of a job after which it started again, or will.

    survived(snapshot(run))      # rows as in requeues.jsonl, in order

A job that failed for good has not survived the failures before. A lost node takes the exit trap with it, so
that nothing is recorded: the attempt that followed is the evidence.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.store.job_tokens import job_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.cluster.decisions import RequeueRecord
    from kit.cluster.snapshot import Snapshot

LOST = "lost node, or a requeue from outside"
_FAILURES = (decisions.FAILURE, decisions.CRASH, decisions.HANG)


def survived(seen: Snapshot) -> list[RequeueRecord]:
    """The decisions on ends that were survived, and one for each start that ended without any."""
    rows = [row for row in seen.decisions if _started_again(row)]
    rows = [row for row in rows if not _in_vain(row, seen.decisions)]
    return sorted([*rows, *_unrecorded(seen)], key=lambda row: row["time"])


def lines(rows: Sequence[RequeueRecord]) -> Iterator[str]:
    """A line for each kind of interruption, with its number."""
    kinds: dict[tuple[str, str], list[RequeueRecord]] = {}
    for row in rows:
        kinds.setdefault((row["reason"], row["name"]), []).append(row)
    for (reason, name), some in kinds.items():
        often = f"job {some[0]['job']}" if len(some) == 1 else f"{len(some):,} times"
        yield f"{reason} of {name} ({often}), requeued"


def _started_again(row: RequeueRecord) -> bool:
    """Whether the kit requeued the job, or Slurm did."""
    return row["requeued"] or not decisions.is_of_last_start(row)


def _in_vain(row: RequeueRecord, rows: Sequence[RequeueRecord]) -> bool:
    """Whether the same job failed for good later, with no new checkpoint in between."""
    job = job_of(row["job"])
    return row["reason"].startswith(_FAILURES) and any(
        job_of(later["job"]) == job
        and later["time"] > row["time"]
        and not later["requeued"]
        and later["reason"].startswith(_FAILURES)
        and later["progress"] == row["progress"]
        for later in rows
    )


def _unrecorded(seen: Snapshot) -> Iterator[RequeueRecord]:
    """Attempts that ended without a decision before another start of the same job."""
    decided = {row["job"] for row in seen.decisions}
    for one, following in itertools.pairwise(seen.begun):
        assert one.start is not None
        assert following.start is not None
        job, after = one.start["job"], following.start["job"]
        if job not in decided and job != after and job_of(job) == job_of(after):
            yield {
                "time": following.start["time"],
                "job": job,
                "name": "train",
                "requeued": True,
                "reason": LOST,
                "progress": [one.number, following.start["from_step"]],
            }
