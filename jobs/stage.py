"""The command line of a stage and its passes: run, submit, status, logs, cancel.

app = stage_app("download", "Fetch the raw texts and cut them into units.", "Fetch the raw texts")
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

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
from jobs.submitted import CANCEL, LOGS, cancel, show_logs
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.run import Project
    from kit.relay.dry_run import Planned

Act = Literal["run", "submit"]


@dataclass(frozen=True)
class Trying:
    """Options of a dry run."""

    dry_run: DryRun = False
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print the jobs as a JSON list.")
    ] = False

    def __post_init__(self) -> None:
        """Raise ConfigError if --json has no effect."""
        if self.as_json and not self.dry_run:
            raise ConfigError("--json: only a dry run prints JSON here; add --dry-run")

    def show(self, jobs: Sequence[Planned]) -> None:
        """Print the jobs."""
        from kit.relay import dry_run

        if self.as_json:
            print_json([job.facts() for job in jobs])
        else:
            print(*dry_run.lines(jobs), sep="\n")


@dataclass(frozen=True)
class Doing(Trying):
    """Options of `run` and `submit`."""

    verify: Verify = False


@dataclass(frozen=True)
class Showing:
    """Options of `status`."""

    verify: Verify = False
    as_json: Json = False


def stage_app(
    name: str,
    text: str,
    does: str,
    *,
    do: Callable[..., None] | None = None,
    show: Callable[..., None] | None = None,
    logs: Callable[..., None] = show_logs,
    end: Callable[..., None] = cancel,
) -> typer.Typer:
    """Create the command line of a stage and its passes: run, submit, status, logs, cancel.

    `does` describes the stage in the imperative. `do(name, act, arguments, doing)` and `show(name,
    arguments, showing)` replace `do_stage` and `show_status`, `logs` and `end` the functions of the same
    parameters in jobs/submitted.py; their further parameters become options.
    """
    app = new_app(text)
    do, show = do or do_stage, show or show_status
    run_help = f"{does}, on this machine, in the foreground."
    verb(app, "run", "demo", run_help)(partial(do, name, "run"))
    submit_help = f"{does}, on the cluster: submit the unfinished tasks, and return immediately."
    verb(app, "submit", "gpt2-xl-ja --cluster mdx", submit_help)(partial(do, name, "submit"))
    status_help = (
        f"Show which units of {name} are done, missing, stale or broken, the state of its job, and the "
        "command to type next."
    )
    verb(app, "status", "gpt2-xl-ja --verify", status_help)(partial(show, name))
    verb(app, "logs", "demo -f", LOGS.format(what=name))(partial(logs, name))
    verb(app, "cancel", "demo", CANCEL.format(what=f"{name}, and the stages behind it"))(
        partial(end, name)
    )
    return app


def do_stage(name: str, act: Act, arguments: Arguments, doing: Doing) -> None:
    """Run or submit a stage with its passes, or show what that would do."""
    do_resolved(name, act, arguments.load(), doing)


def do_resolved(name: str, act: Act, project: Project, doing: Doing) -> None:
    """Run or submit a stage of a project that is loaded already."""
    from kit.relay.stages import stages_of

    stages = stages_of(project.recipe, name)
    if doing.dry_run:
        from kit.relay import dry_run

        doing.show(dry_run.planned(project, stages, submits=act == "submit"))
        return
    from kit.relay.submit import invalidate_broken, run_here, submit

    if doing.verify:
        invalidate_broken(project, stages)
    if act == "submit":
        submit(project, stages)
    else:
        run_here(project, stages)


def show_status(name: str, arguments: Arguments, showing: Showing) -> None:
    """Print the status of a stage and its passes."""
    from kit.relay import status
    from kit.run import begun

    project = arguments.load(refuse=False)
    differing = tell_differences(project)
    words = arguments.words_for(project)
    stages = status.facts(begun.own(project), words, name, verify=showing.verify)
    if showing.as_json:
        passes = {key: value for key, value in stages.items() if key != name}
        more = {"passes": passes, "differs": differing}
        print_json({"stage": name, **stages[name], **{k: v for k, v in more.items() if v}})
        return
    for stage, facts in stages.items():
        print(f"{stage}: {status.headline(facts)}", *status.details(facts), sep="\n")
