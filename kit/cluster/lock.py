"""A lock: only one process of this machine works on a run, and it records its process id."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import RunError
from kit.store.files import text_hash, write_text

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


def is_held(run: Run) -> bool:
    """Whether a process of this machine works on this run."""
    try:
        ensure_idle(run)
    except RunError:
        return True
    return False


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    # On a local disk: Lustre and NFS may be mounted without locking.
    name = f"ekiden-{os.getuid()}-{text_hash(str(run.root.resolve())):016x}.lock"
    with (Path(tempfile.gettempdir()) / name).open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = run.supervisor.read_text(encoding="utf-8") if run.supervisor.is_file() else "?"
            raise RunError(
                f"{run.root}: process {who} is already running this run; wait for it, or kill {who}"
            ) from None
        yield
