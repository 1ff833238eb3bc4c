"""Running and submitting stages: what is refused before, what is told, and what is left to do."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError, InputError, RunError
from kit.output import log, quantities
from kit.output.interrupt import keeping
from kit.relay.stages import TRAIN, tally
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kit.cluster.jobs import Job
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.relay.stages import Stage
    from kit.store.paths import Run


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def run_here(
    project: Project,
    stages: Sequence[Stage],
    say: Callable[[str], None] = log.info,
) -> dict[str, float]:
    """Run stages in the foreground: those of one command in this process, else under a supervisor.

    Training always has a supervisor. Returns the seconds that each took, by its name.
    """
    from kit.cluster import announced, lock
    from kit.cluster.jobs import clear_previous_outcome
    from kit.run import directory

    run, recipe, cluster = project.run, project.recipe, project.cluster
    alone = TRAIN not in stages and len({stage.command for stage in stages}) == 1
    if not alone and not cluster.is_this_machine:
        raise ConfigError(f"cluster {cluster.name}: run works on this machine; use submit")
    ensure_idle(run)
    ensure_inputs_free(project, stages)
    _look_ahead(project, stages)
    refuse_early(project, stages[0])
    if alone:
        with lock.hold(run):
            directory.prepare(project)
            jobs = [stage.job(recipe) for stage in stages]
            clear_previous_outcome(run, jobs)
            announced.announce(run, cluster, jobs)
            took = {}
            for stage, job in zip(stages, jobs, strict=True):
                began = time.monotonic()
                kept = f"{stage.name} ends, its units that are done are kept"
                with announced.on_record(run, stage.name), keeping(kept):
                    job.work(run, 0, 1)
                took[stage.name] = time.monotonic() - began
        return took
    from kit.cluster import local, supervisor

    lay_out = functools.partial(directory.prepare, project)
    local.prepare(run, cluster, _jobs(project, stages), lay_out)
    return supervisor.supervise(run, say, functools.partial(tally, run, recipe))


def submit(
    project: Project,
    stages: Sequence[Stage],
    say: Callable[[str], None] = say,
) -> None:
    """Submit what is not done of the stages, as one chain; returns at once."""
    from kit.cluster import scheduler
    from kit.run import directory

    run, queue = project.run, scheduler.of(project.cluster)
    ensure_idle(run)
    ensure_inputs_free(project, stages)
    todo = to_do(project, stages)
    if not todo:
        say("nothing to submit: all is done")
        return
    _look_ahead(project, todo)
    refuse_early(project, todo[0])
    jobs = _jobs(project, todo)
    queue.check(project.cluster)
    lay_out = functools.partial(directory.prepare, project)
    sent = queue.submit(run, project.cluster, jobs, lay_out)
    for line in sent.lines(str(run.root)):
        say(line)
    if sent.jobs:
        say(f"run directory: {run.root}")


def _look_ahead(project: Project, stages: Sequence[Stage]) -> None:
    """Find out now what the jobs would find out. Raises ConfigError."""
    from kit.relay import submit_checks

    cluster = project.cluster
    submit_checks.check(project, _jobs(project, stages) if stages else [])
    if TRAIN not in stages:
        return
    warn(project)
    if line := submit_checks.little_room(project):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    if cluster.device == "cuda" and cluster.is_this_machine:
        from kit.training import device

        device.check(project.recipe.training.precision, cluster.training.ranks_per_node)


def invalidate_broken(project: Project, stages: Sequence[Stage]) -> None:
    """Read every file of the stages; what is not what its manifest says counts as missing from here on."""
    from kit.store import manifest

    run, recipe = project.run, project.recipe
    ensure_idle(run)
    broken = [  # of all stages first: one whose predecessor is withdrawn has no units to look at
        (stage, unit)
        for stage in stages
        if stage is not TRAIN and stage.census(run, recipe)
        for unit in stage.units(run, recipe)
        if unit.state(verify=True) == "broken"
    ]
    for stage, unit in broken:
        manifest.invalidate(unit.folder)
        say(f"{stage.name}: {unit.name} is damaged, and will be made again")


def ensure_idle(run: Run) -> None:
    """Raises RunError while Slurm has a job of this run, or a process of this machine works on it."""
    from kit.cluster import scheduler

    scheduler.ensure_idle(run)


def refuse_early(project: Project, stage: Stage) -> None:
    """Raises StageError, CheckpointError or InputError where what a stage reads is not there yet."""
    from kit.data import tokens

    if stage is TRAIN:
        tokens.complete(project.recipe)
    else:
        stage.units(project.run, project.recipe)


def ensure_inputs_free(project: Project, stages: Sequence[Stage]) -> None:
    """Raises RunError where stages would replace files that another run is trained on."""
    mine, recipe = project.run, project.recipe
    _refuse_other_texts(mine, recipe)
    stale = [s.name for s in stages if not s.of_run and s.census(mine, recipe).get("stale")]
    if stale:
        refuse_unfinished(recipe, stale[0], spare=mine)


def _refuse_other_texts(run: Run, recipe: Recipe) -> None:
    """Raises RunError where other texts lie where the recipe says that those of the run lie now."""
    from kit.config.recipe import Recipe
    from kit.config.section import read_resolved
    from kit.corpus import download

    if not (run.begun and run.recipe.is_file()):
        return
    own = read_resolved(run.recipe, Recipe).corpus.sources
    for name, source in recipe.corpus.sources.items():
        if name not in own or source.location == own[name].location:
            continue
        corpus = recipe.corpus.model_copy(update={"sources": {name: source}})
        with contextlib.suppress(InputError):  # not there: who needs it says so
            (unit,) = download.units(run, recipe.model_copy(update={"corpus": corpus}))
            if unit.state() == "stale":
                raise RunError(
                    f"corpus.sources.{name}.location={source.location}: is of another size or time than "
                    f"the text that {run.root} was begun with; bring that one, with its time (cp -p), or "
                    "give another name= and workspace="
                )


def refuse_unfinished(recipe: Recipe, stage: str, *, spare: Run | None = None) -> None:
    """Raises RunError where a run but `spare` is trained on what a stage would make anew."""
    from kit.run import directory
    from kit.store.paths import Workspace

    for run in Workspace(Path(recipe.workspace)).runs():
        if run == spare or directory.is_rehearsal(run):
            continue
        if run.begun and not (run.export / MANIFEST).is_file():
            raise RunError(
                f"{recipe.workspace}: {stage} would be made anew, and {run.root.name}, which is not "
                "finished, is trained on it; give another workspace="
            )


def to_do(project: Project, stages: Sequence[Stage]) -> list[Stage]:
    """The stages from the first that is not done."""
    run, recipe = project.run, project.recipe
    rest = list(stages)
    while rest and rest[0].done(run, recipe):
        rest.pop(0)
    return rest


def _jobs(project: Project, stages: Sequence[Stage]) -> list[Job]:
    """The stages as jobs. Of the first only tasks with something to do; of the others that is not known."""
    run, recipe = project.run, project.recipe
    first, *others = stages
    return [first.rest(run, recipe), *(stage.job(recipe) for stage in others)]


def show_dry_run(project: Project, stages: Sequence[Stage]) -> None:
    """Say what `run` or `submit` would do."""
    cluster = project.cluster
    todo = to_do(project, stages)
    _look_ahead(project, todo)
    jobs = _jobs(project, todo) if todo else []
    for stage, job in zip(todo, jobs, strict=True):
        size = (
            quantities.count(cluster.training.ranks, "rank")
            if job.resources == "training"
            else quantities.count(len(job.sent), "task")
        )
        found = stage.survey(project.run, project.recipe)
        counts: Mapping[str, Any] = found.counts or {"waits": found.waits}
        print(f"{stage.name}: {size} on {cluster.name}; {describe(counts)}")


def describe(counts: Mapping[str, Any]) -> str:
    """A census in words."""
    return ", ".join(f"{value} {key}" if isinstance(value, int) else f"{key}: {value}"
                     for key, value in counts.items() if value not in (0, None))  # fmt: skip


def warn(project: Project) -> None:
    """Say on stderr what will be slow, and need not be."""
    from kit.training import precision

    if line := precision.warning(project.recipe.training.precision, project.cluster):
        print(f"warning: {line}", file=sys.stderr, flush=True)
