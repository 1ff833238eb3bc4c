"""Laying out a run directory for the plain batch scripts of sbatch/, without submitting anything.

    for job in prepare.prepare(project):
        print(job.line)

Each job comes as a line of the shell that submits it, to start after the one before.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config import presets
from kit.errors import ConfigError, RunError
from kit.relay import submit
from kit.relay.stages import stages_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.cluster.jobs import Job
    from kit.config.run import Project
    from kit.store.paths import Run


@dataclass(frozen=True)
class Prepared:
    """A job that a plain script starts."""

    name: str
    depends_on: str | None  # the job that has to succeed first
    options: list[str]  # of sbatch, that differ from those in the script
    surplus: list[str]  # of the script, which the cluster file does not have
    script: Path
    run: Path
    tasks: int | None = None  # of the array, if not as many as the recipe says

    @property
    def command(self) -> list[str]:
        """The call of sbatch, without the dependency."""
        words = [*self.options, str(self.script), str(self.run)]
        return ["sbatch", "--parsable", *words, *([str(self.tasks)] if self.tasks else [])]

    @property
    def line(self) -> str:
        """The line of the shell that submits it, and keeps its id in a variable."""
        after = f"--dependency=afterok:${self.depends_on} " if self.depends_on else ""
        program, parsable, *words = self.command
        return f"{self.name}=$({program} {parsable} {after}{shlex.join(words)})"

    def facts(self) -> dict[str, Any]:
        """As JSON, for programs."""
        more = {"command": self.command, "surplus": self.surplus}
        return {"name": self.name, "depends_on": [*filter(None, [self.depends_on])], **more}


def prepare(project: Project) -> list[Prepared]:
    """Write the run directory; returns the jobs of the unfinished stages, in order.

    The checks are those of `submit`, and so are the errors; ConfigError for a cluster without Slurm.
    RunError for a run that keeps code of an earlier version.
    """
    from kit.cluster import lock, plain, scheduler
    from kit.run import directory, kept_code

    run, cluster = project.run, project.cluster
    if cluster.is_this_machine:
        raise ConfigError(
            f"cluster {cluster.name}: its jobs run on this machine, without batch scripts; name a cluster "
            "with Slurm by --cluster, or use run"
        )
    if not kept_code.has(run, "kit/relay/plain_job.py"):
        raise RunError(
            f"{run.root}: keeps code of an earlier version, which has no plain jobs; use submit, or take "
            "the present code first (ekiden train amend --code)"
        )
    submit.ensure_idle(run)
    plan = submit.checked(project, stages_of(project.recipe))
    jobs = submit.jobs_of(project, plan) if plan.stages else []
    fitted = scheduler.for_cluster(cluster).fitted(cluster, jobs).jobs
    with lock.hold(run):
        directory.prepare(project)
        plain.write_setup(run, cluster)
    before = [None, *(job.name for job in jobs)]
    return [
        _prepared(project, job, name, of_recipe)
        for job, of_recipe, name in zip(fitted, jobs, before, strict=False)
    ]


def lines(run: Run, jobs: Sequence[Prepared]) -> Iterator[str]:
    """A script of the shell that submits the jobs; remarks are comments."""
    yield f"# run directory: {run.root}"
    if not jobs:
        yield "# nothing to submit: everything is done"
    for job in jobs:
        for option in job.surplus:
            yield f"# {job.script} has {option}, the cluster file has no such key; remove it if it is wrong"
        yield job.line


def _prepared(project: Project, job: Job, after: str | None, of_recipe: Job) -> Prepared:
    from kit.cluster import plain

    script = presets.batch_script(job.name)
    text = script.read_text(encoding="utf-8")
    found = plain.options(project.run, project.cluster, job, text)
    tasks = None if job.tasks == of_recipe.tasks else job.tasks
    place = (_short(script), project.run.root)
    return Prepared(job.name, after, found.options, found.surplus, *place, tasks)


def _short(path: Path) -> Path:
    """The path from the current folder, if it lies there."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
