"""The command `ekiden`, all jobs in one: `ekiden train submit` is `python -m jobs.train submit`.

ekiden pipeline run demo
ekiden list
ekiden --install-completion
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import ending
from kit import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

# In the order of --help: what is used most, then the relay.
JOBS = ("pipeline", "download", "preprocess", "tokenizer", "tokenize", "train", "evaluate", "export",
        "generate")  # fmt: skip
SINGLE = ("list", "presets")  # jobs of one verb, which is the job itself
TEXT = "From raw text to a released language model on a Slurm cluster, whatever happens on the way."


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"ekiden {__version__}")
        raise typer.Exit


def main() -> None:
    """What the console script calls."""
    with ending.in_order():
        from jobs import command

        command.main(build(command.new_app))


def build(new_app: Callable[..., typer.Typer]) -> typer.Typer:
    """All jobs as one command line."""
    app = new_app(TEXT, completion=True)

    @app.callback()
    def _options(
        version: Annotated[
            bool,
            typer.Option(
                "--version", help="Print the version.", callback=_tell_version, is_eager=True
            ),
        ] = False,
    ) -> None: ...

    for name in JOBS:
        app.add_typer(importlib.import_module(f"jobs.{name}").app, name=name)
    for name in SINGLE:
        importlib.import_module(f"jobs.{name}").add_to(app)
    return app


if __name__ == "__main__":
    main()
