"""MLflow's client: the only door to MLflow, which takes seconds to import."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.output import log, redaction
from kit.store.paths import Workspace
from kit.tracking import sqlite
from kit.tracking.mlflow.address import tracking_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.recipe import Recipe

PATIENCE = {  # MLflow's own retries would block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # To notice when the sqlite file is removed: an open connection would keep writing to it.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_BATCH = 100  # parameters or tags that MLflow takes a call


def connect(recipe: Recipe) -> Any:
    """An `MlflowClient` of the recipe's MLflow; makes the sqlite file of the workspace if it is missing."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    tables = ("Creating initial MLflow database tables", "Updating database tables")
    log.leave_out("mlflow.store.db.utils", *tables, "Create SQLAlchemy engine with pool options")
    if recipe.tracking.mlflow == "workspace":
        store = Workspace(Path(recipe.workspace)).mlflow
        make_store(store)
        sqlite.relocate_artifacts(store)
    return MlflowClient(tracking_uri=tracking_uri(recipe))


def entities() -> Any:
    """The module `mlflow.entities`: the values that a client takes."""
    from mlflow import entities as found

    return found


def refusal() -> type[Exception]:
    """The exception that the client raises for a refused request."""
    from mlflow.exceptions import MlflowException

    return MlflowException  # type: ignore[no-any-return]


def log_texts(
    client: Any, run: str, params: Mapping[str, str] = {}, tags: Mapping[str, str] = {}
) -> None:
    """Log parameters and tags of a run, as many a call as MLflow takes."""
    kinds = entities()
    for chunk in _chunks([kinds.Param(*item) for item in params.items()]):
        client.log_batch(run, params=chunk)
    for chunk in _chunks([kinds.RunTag(*item) for item in tags.items()]):
        client.log_batch(run, tags=chunk)


def brief(error: Exception) -> str:
    """An exception in one line, without credentials."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return redaction.without_credentials(text)[:300]


def warn(text: str) -> None:
    """Log a warning about MLflow."""
    log.warning(f"mlflow: {text}")


def make_store(path: Path) -> None:
    """Create MLflow's sqlite file, whole or not at all: MLflow never repairs half-created tables."""
    if path.is_file() and path.stat().st_size:
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    MlflowClient(tracking_uri=sqlite.uri_of(fresh)).search_experiments()
    if path.is_file() and not path.stat().st_size:  # sqlite creates it if the file was removed
        fresh.replace(path)
        return
    with contextlib.suppress(FileExistsError):  # another run of the workspace was faster
        os.link(fresh, path)
    fresh.unlink()


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
