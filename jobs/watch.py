"""Watch a run: state, goodput, arrival and alerts, and a report to keep.

python -m jobs.watch demo
python -m jobs.watch demo --once
python -m jobs.watch work/demo/runs/demo --json
python -m jobs.watch guard work/demo/runs/demo
python -m jobs.watch report demo
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import (
    Arguments,
    Json,
    OfRecipe,
    WithDefault,
    main,
    new_app,
    print_json,
    tell_differences,
    verb,
)
from kit.errors import ConfigError, JobFailed
from kit.output.quantities import size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.recipe import Recipe
    from kit.store.paths import Run, Workspace
    from kit.watch.sight import Sight

_PAUSE = 60.0  # seconds between two looks of a guard, at least: each calls squeue

app = new_app(
    "Watch a run: its state, where the time went, when it arrives, and alerts. `watch RECIPE` is `watch "
    "show RECIPE`.",
    cls=WithDefault,
)


@app.callback()
def _verbs() -> None:
    """Make a group of them even while there is one."""


@verb(app, "show", "demo")
def show_verb(
    arguments: Arguments,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Look once, and print it as text; so it is without a terminal."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the state of a run, where its time went, when it arrives, and its alerts.

    On a terminal the view is live; press ? there for its keys. Only files and the queue are read: a run is
    watched at any time, during training and after it.
    """
    from jobs.live import Looker, Reader
    from kit.watch import text

    looker = Looker(lambda: arguments.load(refuse=False), arguments.words)
    tell_differences(looker.project)
    if as_json:
        print_json(looker.look())
    elif once or not _is_terminal():
        print(*text.lines(looker.look()), sep="\n")
    else:
        from kit.watch import terminal

        with Reader(looker) as reader:
            terminal.show(reader.current)


def _is_terminal() -> bool:
    """Whether keys can be read, and a screen drawn."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@verb(app, "report", "demo")
def report_verb(
    arguments: Arguments,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write to. Default: report in the run directory."),
    ] = None,
) -> None:
    """Write a page about the run: one file of HTML to keep or to send, and its charts as PNG.

    A run in progress is reported as it stands.
    """
    import time

    from kit.relay import status
    from kit.watch import view
    from kit.watch.report import content, write

    project = arguments.load(refuse=False)
    tell_differences(project)
    files = view.read(project.run)
    chain = status.facts(project, arguments.words, seen=files.seen)
    page = write.write(
        content.gather(project, chain, files, time.time()), out or project.run.report
    )
    print(f"{page}: {size(page.stat().st_size)}")


Port = Annotated[int | None, typer.Option(help="A port. Default: the first free one.")]
Login = Annotated[
    str | None,
    typer.Option(
        help="The login node as your computer knows it. Default: EKIDEN_LOGIN, or the host of sbatch."
    ),
]


@verb(app, "tensorboard", "work/demo")
def tensorboard_verb(arguments: OfRecipe, port: Port = None, login: Login = None) -> None:
    """Serve TensorBoard for a run, or for all runs of a workspace, and print the ssh tunnel to it.

    RECIPE may also be a workspace. It listens on this machine only, and runs until Ctrl-C or scancel.
    """
    from kit.watch.services import tensorboard

    workspace, run, recipe = _place(arguments)
    if recipe is not None and not recipe.tracking.tensorboard:
        raise ConfigError("tracking.tensorboard=false: this run writes no event files")
    tensorboard.serve(workspace, run, port=port, login=login)


@verb(app, "mlflow", "work/demo --auth")
def mlflow_verb(
    arguments: OfRecipe,
    port: Port = None,
    login: Login = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at. Any other needs --auth.")
    ] = "127.0.0.1",
    auth: Annotated[
        bool,
        typer.Option("--auth", help="Ask for the user and password of your MLflow credentials."),
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="A database, as postgresql://USER@HOST/NAME. Default: sqlite."
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep the database in this folder of a local disk, with a backup in the workspace. "
            "Default: TMPDIR, if the workspace lies on a network or parallel file system.",
        ),
    ] = None,
    backup_minutes: Annotated[
        float | None, typer.Option(help="Minutes between two backups. Default: 10.")
    ] = None,
) -> None:
    """Serve MLflow for the runs of a workspace, and print the ssh tunnel to it.

    RECIPE may also be a workspace. It listens on this machine only, and runs until Ctrl-C or scancel.
    """
    from kit.watch.services import mlflow

    workspace, _, recipe = _place(arguments)
    experiment = recipe.tracking.experiment if recipe else "ekiden"
    named = recipe.tracking.mlflow or "" if recipe else ""
    if "://" in named and not named.startswith("http"):
        store = store or named
    options = mlflow.Options(host, port, login, auth, store, scratch, backup_minutes)
    mlflow.serve(workspace, experiment, options)


def _place(arguments: OfRecipe) -> tuple[Workspace, Run | None, Recipe | None]:
    """The workspace given, or that of a recipe or run directory, with the run and its recipe."""
    from kit.config.run import run_of
    from kit.store.paths import Run, Workspace

    path = arguments.recipe_file
    if (path / "runs").is_dir():
        if arguments.overrides:
            raise ConfigError(f"{path}: a workspace has no keys to override; leave them out")
        return Workspace(path.resolve()), None, None
    if path.is_dir() and not Run(path).recipe.is_file():
        raise ConfigError(f"{path}: no workspace, which has a folder runs, and no run directory")
    recipe = arguments.load(refuse=False)
    workspace = Workspace(Path(recipe.workspace))
    if not workspace.root.is_dir():
        raise ConfigError(f"{workspace.root}: no such workspace yet; the first stage makes it")
    return workspace, run_of(recipe), recipe


@verb(app, "guard", "work/demo/runs/demo --once")
def guard_verb(
    arguments: Arguments,
    once: Annotated[bool, typer.Option("--once", help="Look once, for cron.")] = False,
    every: Annotated[
        float | None,
        typer.Option("--every", metavar="SECONDS", help="Time between two looks. Default: 60."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test message and a heartbeat, and nothing else.")
    ] = False,
) -> None:
    """Report the alerts of a run by `alerts.command` of the recipe, until the run is done.

    Each alert is reported once, again every hour while it holds, and when it is resolved. Several guards of
    a run report it only once. Exit codes: 0 done, or with --once it saw the run and all messages arrived;
    1 it could not see the run, or a message did not arrive; 75 stopped by a signal.
    """
    from kit.output.interrupt import keeping
    from kit.watch.guard import Guard

    project = arguments.load(refuse=False)
    if not project.run.root.is_dir():
        raise ConfigError(f"{project.run.root}: no such run; submit it first")
    if sum((once, test, every is not None)) > 1:
        raise ConfigError("give only one of --once, --every and --test")
    pause = _PAUSE if every is None else every
    if pause < _PAUSE:
        raise ConfigError(
            f"--every {every:g}: Slurm is asked once a minute at most; give 60 or more"
        )
    tell_differences(project, spare="alerts.")
    guard = Guard(project.run, project.recipe.alerts, _eyes(arguments), _say)
    with keeping("only the guard ends; the run continues"):
        if test:
            problems: Sequence[str] = guard.test()
        elif once:
            look = guard.look()
            problems = [*([f"blind: {look.blind}"] if look.blind else []), *look.problems]
        else:
            _say(f"guarding {project.run.root}: a look every {pause:g} s, until the run is done")
            guard.loop(pause)
            problems = ()
    if problems:
        raise JobFailed("\n".join(problems))


def _eyes(arguments: Arguments) -> Callable[[int | None], Sight]:
    """A function that looks at the run as it is now, with its amendments."""
    import time

    from kit.relay import status
    from kit.watch import sight, view

    files: view.Files | None = None

    def see(last_step: int | None) -> Sight:
        nonlocal files
        project = arguments.load(refuse=False)
        files = view.read(project.run, files)
        chain = status.facts(project, arguments.words, seen=files.seen)
        facts = view.facts(project, chain, files, time.time(), last_step=last_step)
        newest = files.seen.attempts[-1].damage if files.seen.attempts else None
        return sight.sight(project.recipe.alerts, facts, newest)

    return see


def _say(line: str) -> None:
    print(line, flush=True)


@verb(app, "sync", "work/demo/runs/demo --follow")
def sync_verb(
    arguments: Arguments,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until training has ended for good.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URI",
            help="Another server than the recipe's, or its address from here.",
        ),
    ] = None,
) -> None:
    """Publish a run to MLflow from here, for compute nodes without a network.

    It sends whatever MLflow lacks. It may run beside the jobs, and more than once.
    """
    from kit.relay import mlflow_sync

    project = arguments.load(refuse=False)
    tracked = mlflow_sync.tracked(project, to)
    lines = mlflow_sync.follow(tracked) if follow else [mlflow_sync.once(tracked)]
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main(app)
