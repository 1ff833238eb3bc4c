"""What a run has met so far, for its simulation: times in the queue, and preemptions.

own = own_record.read(project)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.plan.simulation.given import Own
from kit.store import records
from kit.store.files import read_json
from kit.tracking import ledger
from kit.tracking.node_time import held_since

if TYPE_CHECKING:
    from kit.config.run import Project
    from kit.store.paths import Run


def read(project: Project) -> Own | None:
    """The record of the project's run on its cluster; None if it has not run there."""
    run = project.run
    if not run.cluster.is_file() or read_json(run.cluster).get("name") != project.cluster.name:
        return None
    return of_run(run)


def of_run(run: Run) -> Own | None:
    """The record of a run; None before its first attempt has ended."""
    ends = {row["job"]: row for row in decisions.read(run) if row["name"] == "train"}
    waits: list[float] = []
    held, preemptions = 0.0, 0
    requeued: float | None = None  # Unix time of the requeue that the next start follows
    for attempt in ledger.attempts(run):
        start = records.start(attempt)
        began, end = held_since(start), ends.get(start["job"])
        if requeued is not None:
            waits.append(max(0.0, began - requeued))
        requeued = end["time"] if end is not None and end["requeued"] else None
        if end is not None:
            held += max(0.0, end["time"] - began)
            preemptions += end["reason"] == decisions.PREEMPTION
    return Own(tuple(waits), preemptions, held) if held else None
