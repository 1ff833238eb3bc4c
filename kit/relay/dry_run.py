"""What `run` or `submit` would do, without doing it: jobs, their order, and the scripts for Slurm.

jobs = dry_run.planned(project, stages, submits=True)
facts = [job.facts() for job in jobs]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.cluster import scheduler, state
from kit.errors import ClusterError
from kit.output import quantities
from kit.relay import chain, submit
from kit.store import look

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kit.cluster.jobs import Job
    from kit.config.run import Project
    from kit.relay.stages import Stage


@dataclass(frozen=True)
class Planned:
    """A job that would be run or submitted."""

    name: str
    tasks: int  # of the array; 0: nothing to do
    depends_on: list[str]  # names of jobs that have to succeed first
    headline: str
    script: str | None = None  # as sbatch would get it; None without Slurm
    note: str | None = None  # why it has fewer tasks than the recipe gives it

    def facts(self) -> dict[str, Any]:
        """The job as JSON, for programs."""
        facts = {"name": self.name, "tasks": self.tasks, "depends_on": self.depends_on}
        return facts | {"note": self.note, "script": self.script}


def planned(
    project: Project, stages: Sequence[Stage], *, submits: bool, ready: bool = False
) -> list[Planned]:
    """The jobs of the unfinished stages, in order; with `submits`, as they would be sent.

    Raises ConfigError as `submit` does, for problems that jobs would meet; with `ready`, also StageError if
    the input of the first is not there.
    """
    with look.once(), state.short_patience() as silence:
        jobs = _planned(project, stages, submits=submits, ready=ready)
    if submits and silence.reason:
        line = f"warning: {silence.reason}; Slurm's limits on time, partitions and arrays are not checked"
        print(line, file=sys.stderr, flush=True)
    return jobs


def _planned(
    project: Project, stages: Sequence[Stage], *, submits: bool, ready: bool
) -> list[Planned]:
    plan = of_chain(project, stages, submits=submits)
    submit.look_ahead(project, plan)
    if not plan.stages:
        return []
    if ready and not plan.behind:
        submit.refuse_early(project, plan.stages[0])
    jobs = submit.jobs_of(project, plan)
    scripts: dict[str, str] = {}
    notes: Mapping[str, str] = {}
    if submits:
        queue = scheduler.for_cluster(project.cluster)
        fit = queue.fitted(project.cluster, jobs)
        jobs, notes = [*fit.jobs], fit.notes
        scripts = queue.scripts(project.run, project.cluster, jobs, plan.behind)
    before = [[*plan.behind[-1].stages] if plan.behind else [], *([job.name] for job in jobs)]
    return [
        Planned(
            job.name,
            len(job.task_numbers),
            names,
            _headline(project, stage, job, names),
            scripts.get(job.name),
            notes.get(job.name),
        )
        for stage, job, names in zip(plan.stages, jobs, before, strict=False)
    ]


def of_chain(project: Project, stages: Sequence[Stage], *, submits: bool) -> chain.Plan:
    """What there is to do; if Slurm does not answer, as if it had no job of the run, with a warning."""
    if submits:
        try:
            return chain.plan(project, stages)
        except ClusterError as error:
            line = f"warning: {error}; this is what would be sent if none of it were in the queue"
            print(line, file=sys.stderr, flush=True)
    return chain.Plan(chain.to_do(project, stages), [])


def lines(jobs: Sequence[Planned]) -> Iterator[str]:
    """A line for each job, then each script under a line with its name."""
    if not jobs:
        yield "nothing to do: all of it is done, or in the queue"
    for job in jobs:
        yield job.headline
        if job.note is not None:
            yield job.note
    for job in jobs:
        if job.script is not None:
            after = f", after {job.depends_on[0]}" if job.depends_on else ""
            yield f"\n==> {job.name}{after} <=="
            yield job.script.removesuffix("\n")


def _headline(project: Project, stage: Stage, job: Job, after: Sequence[str]) -> str:
    """The size of a job; of the first one also its units, as those of the others may not be known."""
    size = (
        quantities.count(project.cluster.training.ranks, "rank")
        if job.resources == "training"
        else quantities.count(len(job.task_numbers), "task")
    )
    line = f"{stage.name}: {size} on {project.cluster.name}"
    if after:
        return f"{line}, after {after[0]}"
    survey = stage.survey(project.run, project.recipe)
    counts: Mapping[str, Any] = survey.counts or {"waits": survey.waits}
    return f"{line}; {submit.describe(counts)}"
