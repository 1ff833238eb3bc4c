"""Arrays that Slurm accepts: one with more tasks than a limit allows is sent with fewer, larger tasks.

    fit = arrays.within(jobs, queue_limits.of(cluster, jobs))
    fit.jobs, fit.lines

Task i of n makes the units i, i+n, i+2n ..., so its results do not depend on n. The n of a submission is
among the words of its jobs (kit/cluster/task.py): a later submission may choose another one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kit.errors import QueueLimit
from kit.output import quantities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.cluster.jobs import Job

_TRIES = 6  # sizes of a chain that sbatch may refuse


@dataclass(frozen=True)
class Limit:
    """The number of elements that some jobs may have, each or all together; a job alone is one."""

    name: str  # as in `MaxArraySize=1001`
    elements: int
    jobs: frozenset[str]  # by name
    together: bool
    queued: int = 0  # others that count as well, left out of `elements`

    def __str__(self) -> str:
        there = quantities.count(self.queued, "job")
        return f"{self.name}{f', {there} already in the queue' if self.queued else ''}"


@dataclass(frozen=True)
class Fit:
    """Jobs that keep to limits, and a line for each that was made smaller."""

    jobs: Sequence[Job]
    notes: Mapping[str, str]  # by name of the job

    @property
    def lines(self) -> list[str]:
        """The notes to print."""
        return [*self.notes.values()]


def elements(jobs: Sequence[Job]) -> int:
    """The number of jobs that Slurm counts."""
    return sum(len(job.task_numbers) for job in jobs)


def within(jobs: Sequence[Job], limits: Sequence[Limit]) -> Fit:
    """Give jobs fewer tasks where a limit requires it; the largest arrays shrink first.

    Raises QueueLimit if a limit has no room for the jobs with one task each.
    """
    sizes = {job.name: len(job.task_numbers) for job in jobs}
    causes: dict[str, Limit] = {}
    for limit in limits:
        level = _level(limit, [sizes[name] for name in sizes if name in limit.jobs])
        for name in limit.jobs & sizes.keys():
            if sizes[name] > level:
                sizes[name], causes[name] = level, limit
    fitted = [replace(job, tasks=sizes[job.name]) if job.name in causes else job for job in jobs]
    notes = {
        job.name: _note(job, sizes[job.name], causes[job.name])
        for job in jobs
        if job.name in causes
    }
    return Fit(fitted, notes)


def after_refusal(jobs: Sequence[Job], refused: QueueLimit, tried: int) -> Limit | None:
    """The room to try next after sbatch refused one of the jobs; None to give up.

    All that it accepted before fits for certain; if that is too little, try a quarter of the whole.
    """
    names = [job.name for job in jobs]
    at = names.index(refused.job)
    accepted, total = elements(jobs[:at]), elements(jobs[: at + 1])
    room = accepted if accepted >= len(jobs) else max(len(jobs), total // 4)
    if tried >= _TRIES or total <= len(jobs) or room >= elements(jobs):
        return None
    return Limit(refused.limit, room, frozenset(names), together=True)


def _level(limit: Limit, sizes: Sequence[int]) -> int:
    """The largest size of an array with which all of these sizes keep to the limit."""
    if not limit.together:
        return max(1, limit.elements)
    if len(sizes) > limit.elements:
        raise QueueLimit(
            f"{limit}: room for {quantities.count(limit.elements, 'job')}, and the chain has {len(sizes)}; "
            "submit it in parts, as with --until",
            limit=limit.name,
        )
    left, level = limit.elements, math.inf
    for done, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - done)
        if size > share:
            level = share
            break
        left -= size
    return int(min(level, max(sizes, default=1)))


def _note(job: Job, tasks: int, limit: Limit) -> str:
    before = len(job.task_numbers)
    times = math.ceil(before / tasks)
    return (
        f"{job.name}: {quantities.count(tasks, 'task')} instead of {before:,}, each with the units of up "
        f"to {times:,}: {limit}"
    )
