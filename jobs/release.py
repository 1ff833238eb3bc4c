"""The command line of what becomes of weights: of the last checkpoint, or of any by its step.

python -m jobs.evaluate run work/demo/runs/demo --step 80
python -m jobs.generate submit work/demo/runs/demo --step 80
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs.command import (
    ClusterName,
    DryRun,
    Json,
    Overrides,
    RecipeFile,
    Verify,
    do_stage,
    new_app,
    print_json,
    show_status,
)
from kit.errors import RunError
from kit.relay.resolve import load
from kit.relay.submit import run_here, say, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.run import Project
    from kit.relay.stages import Stage

Step = Annotated[
    int | None,
    typer.Option(
        "--step",
        min=0,
        metavar="N",
        help="Of the checkpoint of step N, also while training goes on.",
    ),
]


def release_app(name: str, text: str) -> typer.Typer:
    """The verbs of a stage that is made of weights: run, submit, status; each with --step."""
    app = new_app(text)

    @app.command("run")
    def run_verb(
        recipe_file: RecipeFile,
        overrides: Overrides = None,
        cluster_name: ClusterName = None,
        step: Step = None,
        dry_run: DryRun = False,
        verify: Verify = False,
    ) -> None:
        """Do it here and now; with --step beside a training that may be under way."""
        project = load(recipe_file, overrides, cluster_name)
        if step is None:
            _do_at_the_end(name, run_here, project, dry_run, verify)
        else:
            _do_beside(name, "run", project, step, dry_run, verify)

    @app.command("submit")
    def submit_verb(
        recipe_file: RecipeFile,
        overrides: Overrides = None,
        cluster_name: ClusterName = None,
        step: Step = None,
        dry_run: DryRun = False,
        verify: Verify = False,
    ) -> None:
        """Send it to the cluster, and return at once; with --step beside the training job."""
        project = load(recipe_file, overrides, cluster_name)
        if step is None:
            _do_at_the_end(name, submit, project, dry_run, verify)
        else:
            _do_beside(name, "submit", project, step, dry_run, verify)

    @app.command("status")
    def status_verb(
        recipe_file: RecipeFile,
        overrides: Overrides = None,
        cluster_name: ClusterName = None,
        step: Step = None,
        verify: Verify = False,
        as_json: Json = False,
    ) -> None:
        """What is done, missing, stale or broken."""
        if step is None:
            show_status(name, recipe_file, overrides, cluster_name, verify=verify, as_json=as_json)
        else:
            project = load(recipe_file, overrides, cluster_name)
            _show_step(name, project, step, verify=verify, as_json=as_json)

    return app


def _do_at_the_end(
    name: str,
    act: Callable[[Project, Sequence[Stage]], object],
    project: Project,
    dry_run: bool,
    verify: bool,
) -> None:
    """As of every stage; where training is under way, say that there is another way."""
    try:
        do_stage(name, act, project, dry_run, verify)
    except RunError as error:
        from kit.release import beside

        if beside.at_work(project.run) is None:
            raise
        raise RunError(f"{error}; or give --step N, for a checkpoint, beside it") from None


def _do_beside(
    name: str,
    verb: Literal["run", "submit"],
    project: Project,
    step: int,
    dry_run: bool,
    verify: bool,
) -> None:
    """Of the checkpoint of a step; with --verify what is damaged is made again."""
    from kit.release import beside

    if dry_run:
        state = beside.state(name, project, step)
        say(
            f"{name}: 1 task on {project.cluster.name}, of the checkpoint of step {step}; 1 {state}"
        )
        return
    if verify:
        beside.withdraw_broken(name, project, step, say)
    act = beside.run if verb == "run" else beside.submit
    act(name, project, step, say)


def _show_step(name: str, project: Project, step: int, *, verify: bool, as_json: bool) -> None:
    from kit.release import beside

    run = project.run
    state = beside.state(name, project, step, verify=verify)
    alive = beside.at_work(run.at(step).job(name))
    if as_json:
        made = next((one for one in beside.results(run) if one["step"] == step), {})
        print_json({"stage": name, "step": step, "state": state, "alive": alive, "made": made})
        return
    say(f"{name} of step {step}: {state}{f', {alive}' if alive else ''}")
