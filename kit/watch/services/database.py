"""MLflow's database: which one, and if it is a sqlite file on a local disk, its backup.

sqlite relies on file locks, which network and parallel file systems keep between processes of one host at
best. A workspace there has its database on a local disk of the server's host, copied back regularly.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from kit.errors import ConfigError, InputError
from kit.output import log, quantities
from kit.store.files import atomic, text_hash
from kit.store.mounts import mount_of
from kit.tracking import sqlite

if TYPE_CHECKING:
    from kit.store.paths import Workspace

_PATIENCE = 30.0  # seconds that another process may hold the file


@dataclass(frozen=True)
class Database:
    """Where MLflow keeps its runs, and where its users if it asks for passwords."""

    uri: str
    users: str  # URI
    file: Path | None  # of the runs, if one server at a time may have it
    copies: tuple[Copy, ...] = ()


class Copy:
    """A sqlite file on a local disk, with its backup in the workspace."""

    def __init__(self, file: Path, backup: Path, first: Path | None = None) -> None:
        self.file, self.backup, self._first = file, backup, first
        self._source: sqlite3.Connection | None = None
        self._version: int | None = None  # of the contents that the backup has

    def restore(self) -> str:
        """Replace the file by its backup; returns its origin in words. Raises InputError if damaged."""
        self.remove()
        if self.backup.is_file():
            shutil.copy(self.backup, self.file)
            self._check()
            age = max(time.time() - self.backup.stat().st_mtime, 0)
            return f"restored from a backup that is {quantities.duration(age)} old"
        if self._first is not None and self._first.is_file():
            _copy(self._first, self.file)
            return f"a copy of {self._first}"
        return "new"

    def back_up(self) -> bool:
        """Copy the file into the workspace if it has changed. Raises OSError, sqlite3.Error."""
        if not self.file.is_file():
            return False
        if self._source is None:
            self._source = sqlite3.connect(self.file, timeout=_PATIENCE)
        # Changes with every commit of another connection: https://sqlite.org/pragma.html
        (version,) = self._source.execute("PRAGMA data_version").fetchone()
        if version == self._version and self.backup.is_file():
            return False
        whole = self.file.with_name(f".backup-{self.file.name}")
        with contextlib.closing(sqlite3.connect(whole)) as target:
            self._source.backup(target)
        with whole.open("rb") as source, atomic(self.backup) as out:
            os.fchmod(out.fileno(), self.file.stat().st_mode & 0o777)
            shutil.copyfileobj(source, out)
        whole.unlink()
        self._version = version
        return True

    def remove(self) -> None:
        """Remove the file from the local disk, with the files that sqlite has beside it."""
        if self._source is not None:
            self._source.close()
            self._source = None
        for suffix in ("", "-journal", "-wal", "-shm"):
            self.file.with_name(f"{self.file.name}{suffix}").unlink(missing_ok=True)

    def _check(self) -> None:
        try:
            with contextlib.closing(sqlite3.connect(self.file)) as database:
                (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            verdict = str(error)
        if verdict != "ok":
            raise InputError(
                f"{self.backup}: damaged ({verdict}); move it away to begin with an empty database, which "
                "each run fills again"
            )


def choose(workspace: Workspace, store: str | None, scratch: Path | None) -> Database:
    """The database of a workspace's server.

    With `store`, a URI, that one. Else sqlite: in the workspace, or on a local disk in `scratch` (by
    default TMPDIR) if the file system of the workspace is shared. Raises ConfigError.
    """
    if store is not None:
        return _given(store)
    files = workspace.mlflow_server
    if scratch is None and not mount_of(workspace.root).is_shared:
        return Database(
            sqlite.uri_of(workspace.mlflow), sqlite.uri_of(files.users), workspace.mlflow
        )
    folder = _private(scratch or Path(tempfile.gettempdir()), workspace)
    runs = Copy(folder / "mlflow.db", files.database, first=workspace.mlflow)
    users = Copy(folder / "users.db", files.users)
    return Database(sqlite.uri_of(runs.file), sqlite.uri_of(users.file), runs.file, (runs, users))


def back_up(database: Database) -> bool:
    """Back up each file that has changed; a problem is logged, as the next time may go well."""
    whole = True
    for copy in database.copies:
        try:
            copy.back_up()
        except (OSError, sqlite3.Error) as error:
            log.warning(f"{copy.backup}: no backup ({error}); {copy.file} is kept")
            whole = False
    return whole


def leave(database: Database) -> None:
    """Back up for the last time, and remove the files from the local disk if that went well."""
    if back_up(database):
        for copy in database.copies:
            copy.remove()


def _given(store: str) -> Database:
    """The database of a URI. Raises ConfigError for one that cannot be used safely."""
    parts = urlsplit(store)
    if parts.scheme in ("http", "https", ""):
        raise ConfigError(
            f"--store {store}: not the URI of a database; write postgresql://USER@HOST/NAME or "
            "sqlite:////PATH/mlflow.db"
        )
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ConfigError(
            "--store: a password in a command line is seen by every user of the node; leave it out, and "
            "put it into ~/.pgpass (chmod 600) or the variable PGPASSWORD"
        )
    file = sqlite.file_of(store)
    if file is None:
        return Database(store, store, None)
    if (mount := mount_of(file)).is_shared:
        raise ConfigError(
            f"--store {store}: {mount.point} is {mount.kind}, whose file locks do not reach other hosts: "
            "two of them would destroy the database; leave --store out to keep it on a local disk with a "
            "backup in the workspace, or use postgresql://"
        )
    return Database(store, sqlite.uri_of(file.with_name("mlflow-users.db")), None)


def _private(scratch: Path, workspace: Workspace) -> Path:
    """A folder of this user and this workspace on a local disk. Raises ConfigError."""
    if (mount := mount_of(scratch)).is_shared:
        raise ConfigError(
            f"--scratch {scratch}: {mount.point} is {mount.kind}, which other hosts share; name a folder "
            "of a local disk"
        )
    key = text_hash(str(workspace.root.resolve()))
    folder = scratch.absolute() / f"ekiden-mlflow-{os.getuid()}-{key:016x}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--scratch {scratch}: {error.strerror}; name another folder") from None
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder}: belongs to another user; name a folder with --scratch")
    folder.chmod(0o700)
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copy a sqlite file that another process may be writing."""
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
