"""Locks: one process of this machine works on a run, and one process of any machine submits its jobs.

    with lock.hold(run): ...
    with lock.hold(run), lock.submission(run): ...

The first is a lock of the kernel, which a process loses as it dies; file systems that several machines
share may have none, so the second is a file, which says whose it is.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import RunError
from kit.store.files import read_json, text_hash, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run


@contextmanager
def hold(run: Run) -> Iterator[None]:
    """Lock a run for this process. Raises RunError if another process of this machine works on it."""
    try:
        run.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{run.root}: cannot be created ({error.strerror}); use another workspace="
        ) from None
    with _locked(run):
        write_text(run.supervisor, str(os.getpid()))
        try:
            yield
        finally:  # a file left behind tells that its process was killed
            run.supervisor.unlink(missing_ok=True)


def ensure_idle(run: Run) -> None:
    """Raise RunError while a process of this machine works on a run."""
    with _locked(run):
        return


@contextmanager
def submission(run: Run) -> Iterator[None]:
    """Keep other users and machines from submitting jobs of a run. Raises RunError while one of them does.

    Hold the run as well: then a file of this machine's that is there already was left by a killed process.
    """
    try:
        _claim(run)
    except FileExistsError:
        _clear_abandoned(run)
        _claim(run)
    try:
        yield
    finally:
        run.submitting.unlink(missing_ok=True)


def _claim(run: Run) -> None:
    """Create the file; on any file system only one process can."""
    me = {"host": socket.gethostname(), "user": _user(), "pid": os.getpid(), "time": time.time()}
    with run.submitting.open("x", encoding="utf-8") as file:
        file.write(json.dumps(me))


def _clear_abandoned(run: Run) -> None:
    """Remove the file if its process is gone. Raises RunError if that is not certain."""
    who = _whose(run)
    if who.get("host") == socket.gethostname() and not _exists(who["pid"]):
        aside = run.submitting.with_name(f".submitting-{uuid.uuid4().hex[:8]}")
        with suppress(FileNotFoundError):  # another process has done so
            run.submitting.rename(aside)
            aside.unlink()
        return
    if who:
        raise RunError(
            f"{run.root}: process {who['pid']} of {who['user']} on {who['host']} is submitting this run "
            f"since {time.strftime('%H:%M:%S', time.localtime(who['time']))}; try again when it has ended, "
            f"or, if it was killed, remove {run.submitting}"
        )


def _whose(run: Run) -> dict[str, Any]:
    try:
        who: dict[str, Any] = read_json(run.submitting)
    except FileNotFoundError:  # just removed
        return {}
    except ValueError:  # just being written, or its writer was killed
        owner, changed = run.submitting.owner(), run.submitting.stat().st_mtime
        return {"host": "a machine", "user": owner, "pid": "?", "time": changed}
    return who


def _exists(pid: int) -> bool:
    return (Path("/proc") / str(pid)).is_dir()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without an entry in passwd
        return f"user {os.getuid()}"


def is_held(run: Run) -> bool:
    """Whether a process of this machine works on this run, of this user or of another one."""
    try:
        ensure_idle(run)
    except RunError:
        return True
    return _is_held_by_other(run)


def _is_held_by_other(run: Run) -> bool:
    """Whether the user who wrote the process id holds the lock: it may be tried without writing."""
    try:
        owner = run.supervisor.stat().st_uid
        with _lock_file(run, owner).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such process, or its lock may not be read
        return False
    return False


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    with _lock_file(run, os.getuid()).open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = run.supervisor.read_text(encoding="utf-8") if run.supervisor.is_file() else "?"
            raise RunError(
                f"{run.root}: process {who} is already running this run; wait for it, or kill {who}"
            ) from None
        yield


def _lock_file(run: Run, user: int) -> Path:
    """On a local disk: Lustre and NFS may be mounted without locking."""
    name = f"ekiden-{user}-{text_hash(str(run.root.resolve())):016x}.lock"
    return Path(tempfile.gettempdir()) / name
