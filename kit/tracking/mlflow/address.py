"""The address of a recipe's MLflow: a server, or the sqlite file of the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.store.paths import Workspace
from kit.tracking import sqlite

if TYPE_CHECKING:
    from kit.config.recipe import Recipe


def tracking_uri(recipe: Recipe) -> str:
    """The recipe's MLflow server, or the sqlite file of the workspace, as a URI."""
    assert recipe.tracking.mlflow is not None
    if recipe.tracking.mlflow == "workspace":
        return sqlite.uri_of(Workspace(Path(recipe.workspace)).mlflow)
    return recipe.tracking.mlflow


def sqlite_file(recipe: Recipe) -> Path | None:
    """MLflow's sqlite file; None if MLflow is a server."""
    if recipe.tracking.mlflow == "workspace":
        return Workspace(Path(recipe.workspace)).mlflow
    return sqlite.file_of(tracking_uri(recipe))
