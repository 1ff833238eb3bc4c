"""Presets, the files that come with ekiden: recipes, clusters, DeepSpeed files, scripts.

python -m jobs.presets
cp $(python -m jobs.presets gpt2-xl-ja) mine.yaml
"""

from typing import Annotated

import typer

from jobs.command import Json, main, new_app, print_json, verb

app = new_app("List the files that come with ekiden, and print their paths.")


@verb(app, "presets", "gpt2-xl-ja")
def presets_verb(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Print the path of this one, for example demo or cluster/mdx."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the files that commands accept by name, with their paths: read them, or copy and change them.

    A file in ./configs takes precedence over one of the kit.
    """
    from kit.config import presets

    paths = presets.all_files() if name is None else {name: presets.find(name)}
    if as_json:
        print_json({key: str(path) for key, path in paths.items()})
        return
    width = max(map(len, paths))
    for key, path in paths.items():
        print(path if name else f"{key:{width}}  {path}")


if __name__ == "__main__":
    main(app)
