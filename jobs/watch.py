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
from pathlib import Path  # noqa: TC003  a verb is made by its annotations
from typing import Annotated

import typer

from jobs import guard, services
from jobs.command import (
    Arguments,
    Json,
    WithDefault,
    main,
    new_app,
    print_json,
    tell_differences,
    verb,
)
from kit.errors import ConfigError
from kit.output.quantities import size

app = new_app(
    "Watch a run: its state, where the time went, when it arrives, and alerts. `watch RECIPE` is `watch "
    "show RECIPE`.",
    cls=WithDefault,
)


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
    from kit.run import begun
    from kit.watch import text

    given = arguments.load(refuse=False)
    tell_differences(given)
    words = arguments.words_for(given)
    looker = Looker(lambda: begun.own(arguments.load(refuse=False)), words)
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
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="Without paths, nodes, alerts and forecast, as a release has it; page only.",
        ),
    ] = False,
) -> None:
    """Write a page about the run: one file of HTML to keep or to send, and its charts as PNG.

    A run in progress is reported as it stands.
    """
    import time

    from kit.cluster.snapshot import snapshot
    from kit.relay import status
    from kit.run import begun
    from kit.watch.report import content, write
    from kit.watch.report.public import public as published

    given = arguments.load(refuse=False)
    tell_differences(given)
    words = arguments.words_for(given)
    project = begun.own(given)
    seen = snapshot(project.run)
    chain = status.facts(project, words, seen=seen)
    found = content.gather(project, chain, seen, time.time())
    if public and out is None:
        raise ConfigError("--public: give the folder to write to by --out")
    page = write.write(published(found) if public else found, out or project.run.report)
    print(f"{page}: {size(page.stat().st_size)}")


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


verb(app, "guard", "work/demo/runs/demo --once")(guard.guard)
verb(app, "tensorboard", "work/demo")(services.tensorboard)
verb(app, "mlflow", "work/demo --auth")(services.mlflow)


if __name__ == "__main__":
    main(app)
