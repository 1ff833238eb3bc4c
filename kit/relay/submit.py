"""Run or submit stages, after checks that refuse a submission that would fail or do harm."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError, InputError, RunError, StageError
from kit.output import log
from kit.output.interrupt import keeping
from kit.relay import chain
from kit.relay.chain import Plan
from kit.relay.stages import DOWNLOAD, TRAIN, tally
from kit.store import look
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kit.cluster.jobs import Job
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.relay.stages import Stage
    from kit.store.paths import Run


def say(text: str) -> None:
    """Print a line and flush it."""
    print(text, flush=True)


def run_here(
    project: Project,
    stages: Sequence[Stage],
    say: Callable[[str], None] = log.info,
) -> dict[str, float]:
    """Run stages in the foreground: those of one command in this process, others under a supervisor.

    Training always has a supervisor. Returns the seconds each stage took, by name.
    """
    from kit.cluster import announced, lock
    from kit.cluster.jobs import clear_previous_outcome
    from kit.run import directory

    run, recipe, cluster = project.run, project.recipe, project.cluster
    in_process = TRAIN not in stages and len({stage.command for stage in stages}) == 1
    if not in_process and not cluster.is_this_machine:
        raise ConfigError(
            f"cluster {cluster.name}: run is for this machine; use submit, or --cluster local"
        )
    ensure_idle(run)
    ensure_inputs_free(project, stages)
    _refuse_changed_sources(project, stages[0])
    plan = Plan([*stages], [])
    look_ahead(project, plan)
    _tell_micro_batch(project, plan, say)
    refuse_early(project, stages[0])
    if in_process:
        with lock.hold(run):
            directory.prepare(project)
            jobs = [stage.job(recipe) for stage in stages]
            clear_previous_outcome(run, jobs)
            announced.announce(run, cluster, jobs, "run")
            seconds = {}
            for stage, job in zip(stages, jobs, strict=True):
                began = time.monotonic()
                kept = f"{stage.name} ends; its finished units are kept"
                with announced.on_record(run, stage.name), keeping(kept):
                    job.work(run, 0, 1)
                seconds[stage.name] = time.monotonic() - began
        return seconds
    from kit.cluster import local, supervisor

    prepare = functools.partial(directory.prepare, project)
    local.prepare(run, cluster, jobs_of(project, plan), prepare, "run")
    return supervisor.supervise(run, say, functools.partial(tally, run, recipe))


def submit(
    project: Project,
    stages: Sequence[Stage],
    say: Callable[[str], None] = say,
) -> None:
    """Submit the unfinished stages as one chain, behind those in the queue; returns immediately."""
    from kit.cluster import scheduler

    run, queue = project.run, scheduler.for_cluster(project.cluster)
    with look.once():
        plan = checked(project, stages)
        if not plan.stages:
            say(plan.nothing)
            return
        jobs = jobs_of(project, plan)
    _tell_micro_batch(project, plan, say)
    queue.check(project.cluster)
    sent = queue.submit(run, project.cluster, jobs, _prepare(project, plan), plan.behind)
    for line in sent.lines(str(run.root)):
        say(line)
    if sent.jobs:
        say(f"run directory: {run.root}")


def _tell_micro_batch(project: Project, plan: Plan, say: Callable[[str], None]) -> None:
    """Say what `training.micro_batch: auto` has become, for a run that begins."""
    training = project.recipe.training
    if TRAIN in plan.stages and not project.run.begun and training.micro_batch_reason is not None:
        say(f"training.micro_batch={training.micro_batch}: {training.micro_batch_reason}")


def _prepare(project: Project, plan: Plan) -> Callable[[], object]:
    """Lay out the run directory, unless jobs in the queue read it: then nothing of it may change."""
    from kit.run import directory

    if plan.behind:
        return lambda: None
    return functools.partial(directory.prepare, project)


def checked(project: Project, stages: Sequence[Stage]) -> Plan:
    """What is left to do behind the jobs in the queue, after all checks of `submit`; raises its errors."""
    plan = chain.plan(project, stages)
    ensure_inputs_free(project, stages)
    _refuse_changed_sources(project, stages[0])
    if plan.stages:
        look_ahead(project, plan)
        if not plan.behind:
            refuse_early(project, plan.stages[0])
    return plan


def look_ahead(project: Project, plan: Plan) -> None:
    """Check now for problems that jobs would meet later. Raises ConfigError."""
    from kit.relay import submit_checks

    cluster = project.cluster
    submit_checks.check(project, jobs_of(project, plan) if plan.stages else [])
    if TRAIN not in plan.stages:
        return
    warn(project)
    if line := submit_checks.shared_sqlite(project):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    if line := submit_checks.little_room(project):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    for line in submit_checks.tight_memory(project):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    if cluster.device == "cuda" and cluster.is_this_machine:
        from kit.training import device

        device.check(project.recipe.training.precision, cluster.training.ranks_per_node)


def invalidate_broken(project: Project, stages: Sequence[Stage]) -> None:
    """Read every file of the stages, and mark the units that differ from their manifest as missing."""
    from kit.store import manifest

    run, recipe = project.run, project.recipe
    ensure_idle(run)
    broken = [  # collected first: after an invalidation the stages behind it cannot list their units
        (stage, unit)
        for stage in stages
        if stage is not TRAIN and stage.census(run, recipe)
        for unit in stage.units(run, recipe)
        if unit.state(verify=True) == "broken"
    ]
    for stage, unit in broken:
        manifest.invalidate(unit.folder)
        say(f"{stage.name}: {unit.name} is damaged and will be made again")


def ensure_idle(run: Run) -> None:
    """Raise RunError if Slurm has a job of this run, or a process of this machine is running it."""
    from kit.cluster import scheduler

    scheduler.ensure_idle(run)


def refuse_early(project: Project, stage: Stage) -> None:
    """Raise StageError, CheckpointError or InputError if the input of a stage is not ready."""
    from kit.data import tokens

    run, recipe = project.run, project.recipe
    if stage is TRAIN:
        tokens.complete(recipe)
    else:
        stage.units(run, recipe)


def _refuse_changed_sources(project: Project, stage: Stage) -> None:
    """Raise StageError if preprocess would use units that download cut from other sources.

    Download's manifest lists them, whatever the recipe says by now.
    """
    if stage.command != "preprocess":
        return
    with contextlib.suppress(InputError):  # missing: the stage that needs it says so
        if DOWNLOAD.census(project.run, project.recipe).get("stale"):
            raise StageError(
                "corpus.sources: changed since the texts were cut; run ekiden download first"
            )


def ensure_inputs_free(project: Project, stages: Sequence[Stage]) -> None:
    """Raise RunError if stages would replace files that another unfinished run is training on."""
    mine, recipe = project.run, project.recipe
    _refuse_other_texts(mine, recipe)
    stale = [s.name for s in stages if not s.of_run and s.census(mine, recipe).get("stale")]
    if stale:
        refuse_unfinished(recipe, stale[0], spare=mine)


def _refuse_other_texts(run: Run, recipe: Recipe) -> None:
    """Raise RunError if the texts at a new location are not those that the run started with."""
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
        with contextlib.suppress(InputError):  # missing: the stage that needs it says so
            (unit,) = download.units(run, recipe.model_copy(update={"corpus": corpus}))
            if unit.state() == "stale":
                raise RunError(
                    f"corpus.sources.{name}.location={source.location}: its size or modification time "
                    f"differs from the text that {run.root} started with; copy that one with its times "
                    "(cp -p), or give another name= and workspace="
                )


def refuse_unfinished(recipe: Recipe, stage: str, *, spare: Run | None = None) -> None:
    """Raise RunError if an unfinished run other than `spare` is training on the output of a stage."""
    from kit.run import directory
    from kit.store.paths import Workspace

    for run in Workspace(Path(recipe.workspace)).runs():
        if run == spare or directory.is_rehearsal(run):
            continue
        if run.begun and not (run.export / MANIFEST).is_file():
            raise RunError(
                f"{recipe.workspace}: this would rebuild {stage}, and the unfinished run {run.root.name} "
                "trains on it; give another workspace="
            )


def jobs_of(project: Project, plan: Plan) -> list[Job]:
    """The stages as jobs: of the first one only the unfinished tasks, of the others all tasks.

    Behind a job in the queue all tasks: which of its units will be done is not known yet.
    """
    run, recipe = project.run, project.recipe
    first, *others = plan.stages
    begin = first.job(recipe) if plan.behind else first.rest(run, recipe)
    return [begin, *(stage.job(recipe) for stage in others)]


def describe(counts: Mapping[str, Any]) -> str:
    """Format counts of units, such as "3 done, 1 missing"."""
    return ", ".join(f"{value} {key}" if isinstance(value, int) else f"{key}: {value}"
                     for key, value in counts.items() if value not in (0, None))  # fmt: skip


def warn(project: Project) -> None:
    """Warn on stderr about a precision that is slow on this device."""

    from kit.training import precision

    if line := precision.warning(project.recipe.training.precision, project.cluster):
        print(f"warning: {line}", file=sys.stderr, flush=True)
