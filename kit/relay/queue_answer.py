"""Slurm's last answer about the jobs of a run: it is kept, with its age, while squeue does not answer.

    answer = queue_answer.ask(seen)                       # one squeue call, for all jobs of the run
    answer = queue_answer.ask(seen, previous=answer)      # a minute later
    answer.ends("17")                                     # of a job that squeue has forgotten: sacct, once

Without jobs on Slurm nothing is asked.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kit.cluster import accounting, scheduler
from kit.cluster.snapshot import Snapshot
from kit.cluster.state import SHORT
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kit.cluster.state import Element


@dataclass(frozen=True)
class QueueAnswer:
    """Everything squeue said about some jobs, and when."""

    elements: Mapping[str, Sequence[Element]] = field(default_factory=dict)  # by job id
    jobs: frozenset[str] = frozenset()  # the ids it was asked about
    time: float | None = None  # Unix time of the answer; None: there was none yet
    silent: str | None = None  # why there was no newer answer
    records: Callable[[], Mapping[str, Sequence[Element]]] = field(
        default=dict, compare=False, repr=False
    )  # of the accounting, which is asked once, and only if need be

    def unknown(self, job: str) -> str | None:
        """Why it says nothing about a job; None if it does."""
        if job in self.jobs or job in self.elements:
            return None
        return self.silent or "submitted after Slurm was last asked"

    def ends(self, job: str) -> list[Element]:
        """How a job, or each element of an array, ended, as the accounting has it; empty if unknown."""
        return [one for one in self.records().get(job, ()) if not one.alive]

    def facts(self) -> dict[str, Any] | None:
        """As JSON; None if no job is on Slurm."""
        if not self.jobs and self.silent is None:
            return None
        return {"time": self.time, "silent": self.silent}


def ask(
    seen: Snapshot | Sequence[Snapshot],
    previous: QueueAnswer | None = None,
    patience: float = SHORT,
) -> QueueAnswer:
    """Ask the queue once, for one run or several; if it is silent, the previous answer and the reason."""
    several = [seen] if isinstance(seen, Snapshot) else seen
    jobs = frozenset(job for one in several for job in one.submitted.slurm.values())
    records = functools.cache(lambda: accounting.records(sorted(jobs), patience))
    try:
        elements = scheduler.queue([one.run for one in several], patience)
    except ClusterError as error:
        return replace(previous or QueueAnswer(), silent=str(error), records=records)
    return QueueAnswer(elements, jobs, time.time(), records=records)
