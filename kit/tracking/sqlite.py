"""MLflow's sqlite file, where no server is named: its URI, its plots, what it holds; without MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote

_ARTIFACTS = "mlartifacts"  # beside the file
_PATIENCE = 10.0  # seconds that another process may hold the file


def uri_of(file: Path) -> str:
    """The URI of a sqlite file as SQLAlchemy 2.1 reads it, to which `%` and `?` have a meaning."""
    plain = str(file)
    quoted = plain.replace("%", "%25").replace("?", "%3F")
    # Of a plain `sqlite:///` MLflow would make the folder as it is written, with %3F in its name.
    return f"sqlite:///{plain}" if quoted == plain else f"sqlite+pysqlite:///{quoted}"


def file_of(uri: str) -> Path | None:
    """The file of a sqlite URI; None for any other URI."""
    scheme, _, path = uri.partition(":///")
    if not scheme.startswith("sqlite"):
        return None
    return Path(unquote(path.partition("?")[0])).absolute()


def artifacts_of(file: Path) -> str:
    """Where its plots lie: a URI, since MLflow takes the %20 of a path for a space."""
    return file.with_name(_ARTIFACTS).as_uri()


def bring_artifacts(file: Path) -> None:
    """Have a file that was moved with its plots find them where they lie now: MLflow cannot."""
    now = artifacts_of(file)
    with contextlib.closing(sqlite3.connect(file, timeout=_PATIENCE)) as database, database:
        places = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (was,) in places:
            if was is None or was == now or was.rpartition("/")[2] != _ARTIFACTS:
                continue
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
                (now, was),
            )
            database.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE substr(artifact_uri, 1, ?) = ?",
                (now, len(was) + 1, len(was) + 1, f"{was}/"),
            )


def has_run(file: Path, identity: str) -> bool:
    """Whether the file is there and holds a run, that is not in the trash."""
    if not file.is_file():
        return False
    asked = "SELECT 1 FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_PATIENCE)) as database:
            return database.execute(asked, (identity,)).fetchone() is not None
    except sqlite3.Error:  # MLflow says what is wrong with it
        return False
