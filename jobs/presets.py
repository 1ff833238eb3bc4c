"""The files that come with ekiden and are called by name: recipes, clusters, DeepSpeed files, scripts.

python -m jobs.presets
cp $(python -m jobs.presets gpt2-xl-ja) mine.yaml
"""

from typing import Annotated

import typer

from jobs.command import Json, main, new_app, print_json, verb

app = new_app("The files that come with ekiden and are called by name.")


@verb(app, "presets", "gpt2-xl-ja")
def presets_verb(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Print the path of this one, as mdx or cluster/mdx."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the files that are called by name, and where they lie: to read, or to copy and change.

    Those in ./configs come before those of the kit.
    """
    from kit.config import presets

    found = presets.everything() if name is None else {name: presets.named(name)}
    if as_json:
        print_json({key: str(path) for key, path in found.items()})
        return
    wide = max(map(len, found))
    for key, path in found.items():
        print(path if name else f"{key:{wide}}  {path}")


if __name__ == "__main__":
    main(app)
