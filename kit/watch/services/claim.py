"""Which host runs the MLflow server of a workspace: at most one, since each keeps its own database.

    with claim.hold(workspace.mlflow_server, local_file) as own:
        own.renew()             # every half minute: others believe that this host is alive
        own.set_port(5000)

The record of another host is obeyed until it has not been renewed for five minutes. A job that Slurm has
requeued takes its own record over at once. A server that has lost its record ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from kit.errors import RunError
from kit.output import log, quantities
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.service_paths import ServerFiles

RENEW = 30.0  # seconds
_ALIVE = 300.0  # seconds for which a record counts: clocks aside, ten renewals


class Record(TypedDict):
    """A server's record in the workspace."""

    host: str
    process: int
    begun: str | None  # when the kernel started the process: another may get its number
    job: str | None  # of Slurm
    database: str  # its sqlite file, on a disk of the host
    port: int | None
    time: float
    token: str


class Claim:
    """The record of this process."""

    def __init__(self, files: ServerFiles, database: Path) -> None:
        self._files = files
        self._record: Record = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "begun": _begun(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID"),
            "database": str(database),
            "port": None,
            "time": time.time(),
            "token": uuid.uuid4().hex,
        }
        write_json(files.record, self._record)

    def is_own(self) -> bool:
        """Whether the record is still this process's; one that somebody removed is written again."""
        record = _read(self._files)
        if record is None:
            write_json(self._files.record, self._record)
        return record is None or record["token"] == self._record["token"]

    def renew(self) -> None:
        """Say that this server is alive. Raises RunError if another one has taken its place."""
        try:
            if not self.is_own():
                raise RunError(
                    f"{self._files.record}: another server has taken over; this one ends"
                )
            os.utime(self._files.record)
        except OSError as error:  # of the file system: the next time may go well
            log.warning(f"{self._files.record}: not renewed ({error.strerror})")

    def set_port(self, port: int) -> None:
        """Record the port."""
        self._record["port"] = port
        write_json(self._files.record, self._record)

    def release(self) -> None:
        """Remove the record, if it is still this process's."""
        if self.is_own():
            self._files.record.unlink()


@contextlib.contextmanager
def hold(files: ServerFiles, database: Path) -> Iterator[Claim]:
    """Claim the workspace for a server of this host. Raises RunError while another one is alive."""
    record = _read(files)
    if record is not None and (seen := _alive(files, record)) is not None:
        job = f", job {record['job']}" if record["job"] else ""
        where = f"port {record['port']} of {record['host']}{job}"
        raise RunError(
            f"{files.root.parent}: has an MLflow server already ({where}, seen {seen}); use that one or "
            "stop it, or wait 5 minutes if its host is lost: two would overwrite each other's database"
        )
    claim = Claim(files, database)
    try:
        yield claim
    finally:
        claim.release()


def was_killed_here(files: ServerFiles, database: Path) -> bool:
    """Whether the last server ran on this host, and was killed: its file is newer than any backup."""
    record = _read(files)
    return (
        record is not None
        and (record["host"], record["database"]) == (socket.gethostname(), str(database))
        and database.is_file()
    )


def _read(files: ServerFiles) -> Record | None:
    try:
        record: Record = read_json(files.record)
    except (FileNotFoundError, ValueError):
        return None
    return record


def _alive(files: ServerFiles, record: Record) -> str | None:
    """When the server of a record was last seen; None if it has ended."""
    if record["job"] is not None and record["job"] == os.environ.get("SLURM_JOB_ID"):
        return None
    if record["host"] == socket.gethostname():
        return (
            "just now" if record["begun"] and _begun(record["process"]) == record["begun"] else None
        )
    age = _now(files) - files.record.stat().st_mtime
    return f"{quantities.duration(max(age, 0))} ago" if age < _ALIVE else None


def _now(files: ServerFiles) -> float:
    """The time by the clock that dates files there."""
    probe = files.root / f".clock-{uuid.uuid4().hex[:8]}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _begun(process: int) -> str | None:
    """When a process of this machine was started, in the kernel's ticks; None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1].split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]  # field 22 of proc(5)
