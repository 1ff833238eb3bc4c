"""The command `ekiden`: all jobs in one. `ekiden train submit` is `python -m jobs.train submit`.

ekiden pipeline run demo
ekiden list
ekiden --install-completion
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup

from jobs import ending
from kit import __version__
from kit.output.program import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "From raw text to a released language model on a Slurm cluster, whatever happens on the way."


class _Jobs(TyperGroup):
    """The jobs, each imported on first use."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return [*JOBS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        for name in [cmd_name] if cmd_name in JOBS else JOBS:  # all: one is suggested
            if name not in self.commands:
                module = importlib.import_module(f"jobs.{name}")
                self.commands[name] = typer.main.get_command(module.app)
        return self.commands.get(cmd_name)


def main() -> None:
    """Entry point of the console script."""
    with ending.in_order():
        from jobs import command

        command.main(build(command.new_app))


def build(new_app: Callable[..., typer.Typer]) -> typer.Typer:
    """Build one command line of all jobs."""
    app = new_app(TEXT, completion=True, cls=_Jobs)

    @app.callback()
    def _options(
        version: Annotated[
            bool,
            typer.Option(
                "--version", help="Print the version.", callback=_print_version, is_eager=True
            ),
        ] = False,
    ) -> None: ...

    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ekiden {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
