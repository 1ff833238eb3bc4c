"""The command line of what becomes of weights: of the last checkpoint, or of any by its step.

python -m jobs.evaluate run work/demo/runs/demo --step 80
python -m jobs.generate submit work/demo/runs/demo --step 80
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs.command import Arguments, print_json
from jobs.stage import Act, Doing, Showing, do_resolved, show_status, stage_app
from kit.errors import RunError
from kit.relay.submit import run_here, say

if TYPE_CHECKING:
    from kit.config.run import Project

Step = Annotated[
    int | None,
    typer.Option(
        "--step",
        min=0,
        metavar="N",
        help="Of the checkpoint of step N, also while training goes on.",
    ),
]


def release_app(name: str, text: str, does: str) -> typer.Typer:
    """The verbs of a stage that is made of weights: run, submit, status; each with --step."""
    return stage_app(name, text, does, do=_do, show=_show)


def _do(name: str, act: Act, arguments: Arguments, doing: Doing, step: Step = None) -> None:
    """As of every stage; with a step of its checkpoint, beside a training that may be under way."""
    project = arguments.load()
    if step is None:
        _do_at_the_end(name, act, project, doing)
    else:
        verb: Literal["run", "submit"] = "run" if act is run_here else "submit"
        _do_beside(name, verb, project, step, doing)


def _do_at_the_end(name: str, act: Act, project: Project, doing: Doing) -> None:
    """Where training is under way, say that there is another way."""
    try:
        do_resolved(name, act, project, doing)
    except RunError as error:
        from kit.release import checkpoint_jobs

        if checkpoint_jobs.at_work(project.run) is None:
            raise
        raise RunError(f"{error}; or give --step N, for a checkpoint, beside it") from None


def _do_beside(
    name: str,
    verb: Literal["run", "submit"],
    project: Project,
    step: int,
    doing: Doing,
) -> None:
    """Of the checkpoint of a step; with --verify what is damaged is made again."""
    from kit.release import checkpoint_jobs

    if doing.dry_run:
        state = checkpoint_jobs.state(name, project, step)
        say(
            f"{name}: 1 task on {project.cluster.name}, of the checkpoint of step {step}; 1 {state}"
        )
        return
    if doing.verify:
        checkpoint_jobs.invalidate_broken(name, project, step, say)
    act = checkpoint_jobs.run if verb == "run" else checkpoint_jobs.submit
    act(name, project, step, say)


def _show(name: str, arguments: Arguments, showing: Showing, step: Step = None) -> None:
    """As of every stage, or of the checkpoint of a step."""
    from kit.release import checkpoint_jobs

    if step is None:
        show_status(name, arguments, showing)
        return
    project = arguments.load()
    run = project.run
    state = checkpoint_jobs.state(name, project, step, verify=showing.verify)
    alive = checkpoint_jobs.at_work(run.at(step).job(name))
    if showing.as_json:
        made = next((one for one in checkpoint_jobs.results(run) if one["step"] == step), {})
        print_json({"stage": name, "step": step, "state": state, "alive": alive, "made": made})
        return
    say(f"{name} of step {step}: {state}{f', {alive}' if alive else ''}")
