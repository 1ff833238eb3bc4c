"""Slurm's last answer about the jobs of a run: it is kept, with its age, while squeue does not answer.

    answer = queue_answer.ask(seen)                       # one squeue call, for all jobs of the run
    answer = queue_answer.ask(seen, previous=answer)      # a minute later

Without jobs on Slurm nothing is asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kit.cluster import scheduler
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.cluster.snapshot import Snapshot
    from kit.cluster.state import Element


@dataclass(frozen=True)
class QueueAnswer:
    """Everything squeue said about some jobs, and when."""

    elements: Mapping[str, Sequence[Element]] = field(default_factory=dict)  # by job id
    jobs: frozenset[str] = frozenset()  # the ids it was asked about
    time: float | None = None  # Unix time of the answer; None: there was none yet
    silent: str | None = None  # why there was no newer answer

    def unknown(self, job: str) -> str | None:
        """Why it says nothing about a job; None if it does."""
        if job in self.jobs or job in self.elements:
            return None
        return self.silent or "submitted after Slurm was last asked"

    def facts(self) -> dict[str, Any] | None:
        """As JSON; None if no job is on Slurm."""
        if not self.jobs and self.silent is None:
            return None
        return {"time": self.time, "silent": self.silent}


def ask(seen: Snapshot, previous: QueueAnswer | None = None) -> QueueAnswer:
    """Ask the queue once; if it does not answer, the previous answer with the reason."""
    try:
        elements = scheduler.queue(seen.run)
    except ClusterError as error:
        return replace(previous or QueueAnswer(), silent=str(error))
    return QueueAnswer(elements, frozenset(seen.submitted.slurm.values()), time.time())
