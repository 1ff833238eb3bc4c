"""The state that all guards of a run share: in the run directory, else in the user's state directory.

    holding = load(run)
    with turn(run) as mine:             # one guard at a time delivers messages
        if mine:
            save(run, holding)
    beat(run)

Alerts must come through if the run directory is read only, or its disk full: then the state lies in
$XDG_STATE_HOME, else in ~/.local/state. Of two states the newer counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kit.store.files import read_json, text_hash, write_json
from kit.watch.holding import Holding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.store.paths import Run
    from kit.store.service_paths import GuardFiles

T = TypeVar("T")

STALE = (
    900.0  # seconds without a sign of life until a lock counts as left behind; a command has 300
)


def places(run: Run) -> list[GuardFiles]:
    """The files in the run directory, and those in the user's state directory."""
    name = f"{run.root.name}-{text_hash(str(run.root.resolve())):016x}"
    given = os.environ.get("XDG_STATE_HOME")
    states = [Path(given)] if given else []
    with contextlib.suppress(RuntimeError):  # no home directory is known
        states = states or [Path.home() / ".local" / "state"]
    return [run.guard, *(run.guard_elsewhere(state, name) for state in states)]


def load(run: Run) -> Holding:
    """The newest state; an empty one if there is none that can be read."""
    found = [_load(files.state) for files in places(run)]
    return max(found, key=lambda one: one.time)


def save(run: Run, holding: Holding) -> None:
    """Store a state. Raises OSError if no place can be written."""
    _in_one(run, lambda files: write_json(files.state, holding.facts()))


def beat(run: Run) -> None:
    """Touch the heartbeat file. Raises OSError if no place can be written."""
    _in_one(run, lambda files: _touch(files.heartbeat))


@contextlib.contextmanager
def turn(run: Run) -> Iterator[Callable[[], object] | None]:
    """Take the lock: yields a function that says it is still needed, or None if another guard has it.

    Without any place to write, this guard is the only one that counts.
    """
    try:
        lock = _in_one(run, lambda files: _take(files.lock))
    except OSError:
        yield lambda: None
        return
    if lock is None:
        yield None
        return
    try:
        yield lambda: _touch(lock)
    finally:
        lock.unlink(missing_ok=True)


def _load(path: Path) -> Holding:
    try:
        return Holding.of(read_json(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or another version's
        return Holding()


def _in_one(run: Run, action: Callable[[GuardFiles], T]) -> T:
    """The result in the first place that can be written."""
    first, *others = places(run)
    try:
        if not first.root.is_dir():
            raise FileNotFoundError(first.root)  # a run that was removed does not come back
        return action(first)
    except OSError as error:
        for files in others:
            with contextlib.suppress(OSError):
                files.root.mkdir(parents=True, exist_ok=True)
                return action(files)
        raise error from None


def _take(lock: Path) -> Path | None:
    """Create the lock exclusively; None if another guard holds it.

    `flock` would not do: Lustre and NFS may be mounted without it.
    """
    try:
        stream = lock.open("x", encoding="utf-8")
    except FileExistsError:
        return lock if _take_over(lock) else None
    try:
        with stream:
            json.dump({"host": socket.gethostname(), "process": os.getpid()}, stream)
    except OSError:  # the disk is full
        lock.unlink(missing_ok=True)
        raise
    return lock


def _take_over(lock: Path) -> bool:
    """Take a lock that a killed guard left behind; its age is measured by the file system's clock."""
    with tempfile.NamedTemporaryFile(dir=lock.parent, prefix=".partial-") as now:
        try:
            if os.fstat(now.fileno()).st_mtime - lock.stat().st_mtime > STALE:
                os.utime(lock)
                return True
        except FileNotFoundError:  # just released
            pass
    return False


def _touch(path: Path) -> None:
    with path.open("a"):
        os.utime(path)
