"""Shared parts of evaluate, export and generate: each takes the last checkpoint, or that of --step.

python -m jobs.evaluate run work/demo/runs/demo --step 80
python -m jobs.generate submit work/demo/runs/demo --step 80
python -m jobs.evaluate run work/demo/runs/demo --step all
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import Arguments, Json, print_json
from jobs.stage import Act, Doing, Showing, do_resolved, show_status, stage_app
from jobs.submitted import Reading, cancel, cancel_of, show_logs, show_logs_of
from kit.errors import ConfigError, RunError, StageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.relay.dry_run import Planned

Step = Annotated[
    int | None,
    typer.Option(
        "--step",
        min=0,
        metavar="N",
        help="Use the checkpoint of step N; works during training, too.",
    ),
]

Steps = Annotated[
    str | None,
    typer.Option(
        "--step",
        metavar="N[,N...]|all",
        help="Use the checkpoints of these steps, or all there are; works during training, too.",
    ),
]


def release_app(name: str, text: str, does: str) -> typer.Typer:
    """Create the command line of a stage that reads weights: every verb with --step."""
    return stage_app(name, text, does, do=_do, show=_show, logs=_logs, end=_cancel)


def export_of(
    place: Path,
    step: int | None,
    overrides: Sequence[str] = (),
    spare: Collection[str] = (),
) -> tuple[Path, Recipe | None]:
    """The exported folder that a command names, and the recipe of its run; None for the folder itself.

    `overrides` and `spare` as those of `resolve.load` and `begun.refuse_other`. Raises ConfigError for a
    folder with --step; StageError for any other folder, and if nothing is exported yet.
    """
    from kit.config import presets
    from kit.relay.resolve import load
    from kit.release import exported
    from kit.run import begun
    from kit.store.paths import MANIFEST, Run

    folder = presets.recipe(place)
    if exported.is_export(folder):
        if step is not None:
            raise ConfigError(f"--step {step}: {folder} is an export, of one step; remove --step")
        return folder, None
    if folder.is_dir() and not Run(folder).recipe.is_file():
        raise StageError(f"{folder}: neither an exported folder nor a run directory")
    project = load(place, list(overrides), refuse=False)
    begun.refuse_other(project, spare=spare)
    export = project.run.export if step is None else project.run.at(step).export
    if not (export / MANIFEST).is_file():
        rest = "first" if step is None else f"{place} --step {step} first"
        raise StageError(f"{export}: not exported yet; run ekiden export {rest}")
    return export, project.recipe


def _do(name: str, act: Act, arguments: Arguments, doing: Doing, step: Steps = None) -> None:
    """Process the last checkpoint, like any stage, or those of steps, even during training."""
    project = arguments.load()
    if step is None:
        _do_last(name, act, project, doing)
        return
    steps = _numbers(project, step)
    if doing.dry_run:
        doing.show([plan for one in steps for plan in _planned(name, act, project, one)])
        return
    for one in steps:
        _do_step(name, act, project, one, doing)


def _numbers(project: Project, text: str) -> list[int]:
    """The steps of an option. Raises ConfigError, or CheckpointError if there is no checkpoint."""
    from kit.release import checkpoint_jobs

    if text == "all":
        return checkpoint_jobs.steps(project.run)
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise ConfigError(
            f"--step {text}: not a step; give a number, several with commas between them, or all"
        )
    return [*dict.fromkeys(map(int, numbers))]


def _do_last(name: str, act: Act, project: Project, doing: Doing) -> None:
    """If training is still running, the error mentions --step."""
    try:
        do_resolved(name, act, project, doing)
    except RunError as error:
        from kit.release import checkpoint_jobs

        if checkpoint_jobs.at_work(project.run) is None:
            raise
        raise RunError(f"{error}; or give --step N to use a checkpoint now") from None


def _do_step(
    name: str,
    act: Act,
    project: Project,
    step: int,
    doing: Doing,
) -> None:
    """Process the checkpoint of a step; --verify replaces damaged results."""
    from kit.relay.submit import say
    from kit.release import checkpoint_jobs

    if doing.verify:
        checkpoint_jobs.invalidate_broken(name, project, step, say)
    do = checkpoint_jobs.run if act == "run" else checkpoint_jobs.submit
    do(name, project, step, say)


def _planned(name: str, act: Act, project: Project, step: int) -> list[Planned]:
    """The job on a step's checkpoint as it would be run or submitted."""
    from kit.cluster import scheduler
    from kit.relay.dry_run import Planned
    from kit.release import checkpoint_jobs

    cluster, state = project.cluster, checkpoint_jobs.state(name, project, step)
    tasks = 0 if state == "done" else 1
    scripts: dict[str, str] = {}
    if act == "submit" and tasks:
        run, job = checkpoint_jobs.submission(name, project, step)
        scripts = scheduler.for_cluster(cluster).scripts(run, cluster, [job])
    headline = f"{name}: 1 task on {cluster.name}, of the checkpoint of step {step}; 1 {state}"
    return [Planned(name, tasks, [], headline, scripts.get(name))]


def _show(name: str, arguments: Arguments, showing: Showing, step: Step = None) -> None:
    """Show the status of the stage, or of a step's checkpoint."""
    from kit.relay.submit import say
    from kit.release import checkpoint_jobs

    if step is None:
        show_status(name, arguments, showing)
        return
    project = arguments.load()
    run = project.run
    state = checkpoint_jobs.state(name, project, step, verify=showing.verify)
    alive = checkpoint_jobs.at_work(run.at(step).job(name))
    if showing.as_json:
        result = next((row for row in checkpoint_jobs.results(run) if row["step"] == step), {})
        print_json({"stage": name, "step": step, "state": state, "alive": alive, "made": result})

        return
    say(f"{name} of step {step}: {state}{f', {alive}' if alive else ''}")


def _logs(name: str, arguments: Arguments, reading: Reading, step: Step = None) -> None:
    """Print the logs of the stage, or of its job on a step's checkpoint."""
    if step is None:
        show_logs(name, arguments, reading)
    else:
        show_logs_of(arguments.load(refuse=False).run.at(step).job(name), [name], reading)


def _cancel(name: str, arguments: Arguments, step: Step = None, as_json: Json = False) -> None:
    """Cancel the stage, or its job on a step's checkpoint."""
    if step is None:
        cancel(name, arguments, as_json)
        return
    project = arguments.load(refuse=False)
    words = [*arguments.words_for(project), "--step", str(step)]
    job = replace(project, run=project.run.at(step).job(name))
    cancel_of(job, [name], words, name, as_json=as_json)
