"""List the runs of a workspace with their states.

python -m jobs.list
python -m jobs.list work/demo --json
"""

from pathlib import Path
from typing import Annotated

import typer

from jobs.command import Json, main, new_app, print_json, verb

app = new_app("List the runs of a workspace with their states.")


@verb(app, "list", "work/demo --json")
def list_verb(
    workspace: Annotated[
        Path | None,
        typer.Argument(
            metavar="[WORKSPACE]",
            help="A workspace, such as work/demo. Default: this folder if it is one, else all in ./work.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the runs of a workspace: the state of each, and the progress of its training.

    The state is that of the first unfinished stage; `pipeline status RUN` has the details.
    """
    from kit.relay import runs

    rows = runs.facts(runs.workspaces(workspace))
    if as_json:
        print_json({"runs": rows})
    else:
        runs.show(rows)


if __name__ == "__main__":
    main(app)
