"""MLflow's sqlite file, used if the recipe names no server: its URI, plots and runs, without MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote

_ARTIFACTS = "mlartifacts"  # beside the file
_PATIENCE = 10.0  # seconds that another process may hold the file


def uri_of(file: Path) -> str:
    """The URI of a sqlite file for SQLAlchemy 2.1, in which `%` and `?` have a special meaning."""
    plain = str(file)
    quoted = plain.replace("%", "%25").replace("?", "%3F")
    # Given a quoted `sqlite:///`, MLflow would create a folder with %3F in its name.
    return f"sqlite:///{plain}" if quoted == plain else f"sqlite+pysqlite:///{quoted}"


def file_of(uri: str) -> Path | None:
    """The file of a sqlite URI; None for any other URI."""
    scheme, _, path = uri.partition(":///")
    if not scheme.startswith("sqlite"):
        return None
    return Path(unquote(path.partition("?")[0])).absolute()


def artifacts_of(file: Path) -> str:
    """The folder of its plots, as a URI, since MLflow reads the %20 of a path as a space."""
    return file.with_name(_ARTIFACTS).as_uri()


def relocate_artifacts(file: Path, beside: Path | None = None) -> None:
    """Update the paths of plots in a file that was moved together with them, which MLflow cannot do.

    `beside` is the original if the file is a copy of it without the plots.
    """
    new = artifacts_of(beside or file)
    with contextlib.closing(sqlite3.connect(file, timeout=_PATIENCE)) as database, database:
        rows = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (old,) in rows:
            if old is None or old == new or old.rpartition("/")[2] != _ARTIFACTS:
                continue
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
                (new, old),
            )
            database.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE substr(artifact_uri, 1, ?) = ?",
                (new, len(old) + 1, len(old) + 1, f"{old}/"),
            )


def has_run(file: Path, identity: str) -> bool:
    """Whether the file exists and has a run that is not in the trash."""
    if not file.is_file():
        return False
    query = "SELECT 1 FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_PATIENCE)) as database:
            return database.execute(query, (identity,)).fetchone() is not None
    except sqlite3.Error:  # MLflow will report the error
        return False
