"""Export the model as a folder that transformers loads.

python -m jobs.export run demo
python -m jobs.export run work/demo/runs/demo --step 80
python -m jobs.export verify work/demo/runs/demo/export
"""

from pathlib import Path
from typing import Annotated

import typer

from jobs.command import Json, main, print_json, verb
from jobs.release import release_app
from kit.errors import FAILED

app = release_app(
    "export",
    "Export the model as a folder that transformers loads; verify such a folder.",
    "Write the folder that transformers loads",
)


@verb(app, "verify", "work/demo/runs/demo/export")
def verify_verb(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="An exported folder, wherever it lies.")
    ],
    as_json: Json = False,
) -> None:
    """Compare every file of an exported folder with the hashes in its manifest.

    Exit code 1 if a file is damaged, missing or extra.
    """
    from kit.release import verification

    found = verification.check(folder)
    if as_json:
        print_json(found.facts())
    else:
        print(*found.lines(), sep="\n")
    if found.faults:
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    main(app)
