"""The command line of a stage: run, submit and status, of it and of the passes that belong to it.

app = stage_app("download", "Raw text, at hand and cut into units.", "Fetch the raw texts")
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.command import (
    Arguments,
    DryRun,
    Json,
    Verify,
    new_app,
    print_json,
    tell_differences,
    verb,
)
from kit.relay.submit import invalidate_broken, run_here, show_dry_run, submit

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer

    from kit.config.run import Project

Act = Any  # run_here or submit: of a project and stages


@dataclass(frozen=True)
class Doing:
    """How a stage is run or submitted."""

    dry_run: DryRun = False
    verify: Verify = False


@dataclass(frozen=True)
class Showing:
    """How `status` looks and answers."""

    verify: Verify = False
    as_json: Json = False


def stage_app(
    name: str,
    text: str,
    does: str,
    *,
    do: Callable[..., None] | None = None,
    show: Callable[..., None] | None = None,
) -> typer.Typer:
    """The command line of one stage, and of the passes that belong to it: run, submit, status.

    `does` says in the imperative what the stage does. `do(name, act, arguments, doing)` and `show(name,
    arguments, showing)` replace `do_stage` and `show_status`; their further parameters are options.
    """
    app = new_app(text)
    do, show = do or do_stage, show or show_status
    here = f"{does}, on this machine, in the foreground."
    verb(app, "run", "demo", here)(partial(do, name, run_here))
    sent = f"{does}, on the cluster: send what is not done of it, and return at once."
    verb(app, "submit", "gpt2-xl-ja --cluster mdx", sent)(partial(do, name, submit))
    stands = (
        f"Show what is done of {name}, missing, stale or broken; what became of its job, and what to "
        "type next."
    )
    verb(app, "status", "gpt2-xl-ja --verify", stands)(partial(show, name))
    return app


def do_stage(name: str, act: Act, arguments: Arguments, doing: Doing) -> None:
    """Run or submit a stage with its passes, or say what that would do."""
    do_resolved(name, act, arguments.load(), doing)


def do_resolved(name: str, act: Act, project: Project, doing: Doing) -> None:
    """The same of what was loaded already."""
    from kit.relay.stages import stages_of

    stages = stages_of(project.recipe, name)
    if doing.dry_run:
        show_dry_run(project, stages)
        return
    if doing.verify:
        invalidate_broken(project, stages)
    act(project, stages)


def show_status(name: str, arguments: Arguments, showing: Showing) -> None:
    """Print where a stage stands with its passes."""
    from kit.relay import status

    project = arguments.load(refuse=False)
    differing = tell_differences(project)
    stages = status.facts(project, arguments.words, name, verify=showing.verify)
    if showing.as_json:
        passes = {key: value for key, value in stages.items() if key != name}
        more = {"passes": passes, "differs": differing}
        print_json({"stage": name, **stages[name], **{k: v for k, v in more.items() if v}})
        return
    for stage, found in stages.items():
        print(f"{stage}: {status.headline(found)}", *status.details(found), sep="\n")
