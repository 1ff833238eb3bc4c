"""A workspace's runs and their states.

python -m jobs.list
python -m jobs.list work/demo --json
"""

from pathlib import Path
from typing import Annotated

import typer

from jobs.command import Json, main, new_app, print_json, verb

app = new_app("A workspace's runs and their states.")


@verb(app, "list", "work/demo --json")
def list_verb(
    workspace: Annotated[
        Path | None,
        typer.Argument(
            metavar="[WORKSPACE]",
            help="A workspace, as work/demo; else this folder if it is one, or all in its folder work.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the runs of a workspace: the state of each, and how far its training is.

    The state is that of the first stage that is not done; `jobs.pipeline status RUN` tells more of it.
    """
    from kit.relay import runs

    found = runs.facts(runs.workspaces(workspace))
    if as_json:
        print_json({"runs": found})
    else:
        runs.show(found)


if __name__ == "__main__":
    main(app)
