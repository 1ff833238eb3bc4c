"""Watch a run: state, goodput, arrival and alerts.

python -m jobs.watch demo --once
python -m jobs.watch work/demo/runs/demo --json
"""

from typing import Annotated

import typer

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

app = new_app(
    "Watch a run: its state, where the time went, when it arrives, and alerts. `watch RECIPE` is `watch "
    "show RECIPE`.",
    cls=WithDefault,
)


@app.callback()
def _verbs() -> None:
    """Make a group of them even while there is one."""


@verb(app, "show", "demo --once")
def show_verb(
    arguments: Arguments,
    once: Annotated[bool, typer.Option("--once", help="Look once, and print it as text.")] = False,
    as_json: Json = False,
) -> None:
    """Show the state of a run, where its time went, when it arrives, and its alerts.

    Only files and the queue are read: a run is watched at any time, during training and after it.
    """
    import time

    from kit.relay import status
    from kit.watch import view

    if not (once or as_json):
        raise ConfigError("there is no live view; give --once for the text, or --json")
    project = arguments.load(refuse=False)
    tell_differences(project)
    files = view.read(project.run)
    chain = status.facts(project, arguments.words, seen=files.seen)
    facts = view.facts(project, chain, files, time.time())
    if as_json:
        print_json(facts)
    else:
        print(*view.lines(facts), sep="\n")


if __name__ == "__main__":
    main(app)
