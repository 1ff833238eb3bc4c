"""The verbs `tensorboard` and `mlflow` of `watch`: servers over a run or a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import OfRecipe  # noqa: TC001  a verb is made by its annotations
from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.paths import Run, Workspace

Port = Annotated[int | None, typer.Option(help="A port. Default: the first free one.")]
Login = Annotated[
    str | None,
    typer.Option(
        help="The login node as your computer knows it. Default: EKIDEN_LOGIN, or the host of sbatch."
    ),
]


def tensorboard(arguments: OfRecipe, port: Port = None, login: Login = None) -> None:
    """Serve TensorBoard for a run, or for all runs of a workspace, and print the ssh tunnel to it.

    RECIPE may also be a workspace. It listens on this machine only, and runs until Ctrl-C or scancel.
    """
    from kit.watch.services import tensorboard as service

    workspace, run, recipe = _place(arguments)
    if recipe is not None and not recipe.tracking.tensorboard:
        raise ConfigError("tracking.tensorboard=false: this run writes no event files")
    service.serve(workspace, run, port=port, login=login)


def mlflow(
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
    from kit.watch.services import mlflow as service

    workspace, _, recipe = _place(arguments)
    experiment = recipe.tracking.experiment if recipe else "ekiden"
    named = recipe.tracking.mlflow or "" if recipe else ""
    if "://" in named and not named.startswith("http"):
        store = store or named
    options = service.Options(host, port, login, auth, store, scratch, backup_minutes)
    service.serve(workspace, experiment, options)


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
