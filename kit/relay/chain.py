"""What `submit` sends of a chain whose jobs are partly in the queue already.

    plan = chain.plan(project, stages)
    plan.stages     # to send, in order: the unfinished ones that are not in the queue
    plan.behind     # the jobs in the queue, in order: the first new one starts after the last of them

A stage is never sent twice, and never ahead of one that is queued or running: that one may have read, or be
reading, the files that it would replace.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.cluster import scheduler
from kit.errors import RunError, StageError
from kit.relay.stages import STAGES, TRAIN, stages_of
from kit.run import begun

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.cluster.jobs import Alive
    from kit.config.run import Project
    from kit.relay.stages import Stage

_ORDER = [stage.name for stage in STAGES]
_STATES = {"PENDING": "queued"}  # the word of `status`


@dataclass(frozen=True)
class Plan:
    """The stages to send, and the jobs in the queue that they follow."""

    stages: list[Stage]
    behind: list[Alive]

    @property
    def nothing(self) -> str:
        """Why there is nothing to send."""
        alive = "; ".join(_described(self.behind))
        return f"nothing to submit: {alive or 'everything is done'}"


def plan(project: Project, stages: Sequence[Stage]) -> Plan:
    """Compare the stages with the queue and with their files.

    Raises RunError if a job in the queue reads another recipe than this one, or would be overtaken;
    ClusterError if the queue does not answer.
    """
    behind = _in_the_queue(project)
    _refuse_plain(project, behind)
    if behind:
        begun.refuse_change_under(project, behind[0].who)
    queued = {name for one in behind for name in one.stages}
    missing = [stage for stage in to_do(project, stages) if stage.name not in queued]
    if missing and behind:
        _refuse_to_overtake(missing[0], behind)
        _refuse_dead_tasks(behind)
        _refuse_gap(project, missing[0], queued)
    return Plan(missing, behind)


def to_do(project: Project, stages: Sequence[Stage]) -> list[Stage]:
    """The stages from the first unfinished one on; once training is done, nothing before it is needed."""
    run, recipe = project.run, project.recipe
    unfinished = list(stages)
    if TRAIN in unfinished and run.begun and TRAIN.done(run, recipe):
        unfinished = unfinished[unfinished.index(TRAIN) + 1 :]
    while unfinished and unfinished[0].done(run, recipe):
        unfinished.pop(0)
    return unfinished


def _in_the_queue(project: Project) -> list[Alive]:
    """The jobs of the run on its cluster, in the order of the chain. Raises RunError if others run it."""
    mine = scheduler.for_cluster(project.cluster)
    for other in scheduler.all_schedulers():
        if other is not mine:
            other.ensure_idle(project.run)
    return sorted(mine.alive(project.run), key=_place)


def _place(job: Alive) -> int:
    return max((_ORDER.index(name) for name in job.stages if name in _ORDER), default=-1)


def _described(jobs: Sequence[Alive]) -> Iterator[str]:
    """`count (job 17) is running`, `merge, candidates (jobs 18, 19) are queued`."""
    for state, some in itertools.groupby(
        jobs, lambda one: _STATES.get(one.state, one.state.lower())
    ):
        alike = [*some]
        names = [name for one in alike for name in one.stages] or ["this run"]
        who = alike[0].who
        if len(alike) > 1:
            who = f"jobs {', '.join(one.job for one in alike)}"
        yield f"{', '.join(names)} ({who}) {'is' if len(names) == 1 else 'are'} {state}"
    if dead := [task for one in jobs for task in one.failed]:
        yield f"{', '.join(dead)} ended badly: submit again when the others have ended"


def _refuse_plain(project: Project, behind: Sequence[Alive]) -> None:
    """Raise RunError if a job is of a plain script: those that wait behind it are not on record."""
    for one in behind:
        if one.plain:
            raise RunError(
                f"{project.run.root}: {one.who} of this run is {one.state}, of a plain script, and others "
                f"may be queued behind it; wait for them, or {one.remedy}"
            )


def _refuse_to_overtake(stage: Stage, behind: Sequence[Alive]) -> None:
    """Raise RunError if a job of a later stage is in the queue: it reads files that this one replaces."""
    last = behind[-1]
    if _place(last) > _ORDER.index(stage.name):
        raise RunError(
            f"{stage.name}: not done, and {last.stages[-1]}, behind it, is in the queue ({last.words}); "
            f"wait for it, or {last.remedy}"
        )


def _refuse_dead_tasks(behind: Sequence[Alive]) -> None:
    """Raise RunError if a task of an array ended badly: no job behind it would ever start."""
    for one in behind:
        if one.failed:
            raise RunError(
                f"{one.stages[-1]}: {', '.join(one.failed)} ended badly, while others of {one.who} are in "
                f"the queue; submit again when they have ended, or {one.remedy} first"
            )


def _refuse_gap(project: Project, stage: Stage, queued: set[str]) -> None:
    """Raise StageError if a stage before it has no files and no job either."""
    for before in stages_of(project.recipe):
        if before.name == stage.name:
            return
        counts = before.survey(project.run, project.recipe).counts
        whole = counts and not counts.get("missing") and not counts.get("broken")
        if before.name not in queued and not whole:
            raise StageError(
                f"{stage.name}: {before.name}, before it, is not done, and not in the queue either; submit "
                "it first, or everything with ekiden pipeline submit"
            )
