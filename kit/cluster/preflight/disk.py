"""The file system of the workspace: room, files, and the operations that the kit relies on.

A file is whole or absent because it is synced and renamed; an attempt is claimed by creating its folder.
File locks are used on a local disk only (kit/cluster/lock.py), except by the sqlite file of MLflow.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster.preflight.finding import Finding, warning
from kit.output.quantities import duration, size
from kit.plan import shape
from kit.plan.disk import checkpoints_kept
from kit.store.files import sync_directory
from kit.tracking.mlflow import address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.cluster.preflight.finding import Site

_LARGE = 64 << 20  # bytes written to measure the rate
_CHUNK = 1 << 20
_SYNCS = 5  # small files synced to measure the time
_FILES_OF_A_RANK = 3  # in a checkpoint, and its manifest and progress
_OTHER_FILES = 1_000  # logs, ledgers, event files, the code
_PREFIX = ".check-"


def space(site: Site) -> Finding:
    """Room for the checkpoints that are still to come, by the plan's estimate."""
    each = shape.checkpoint_bytes(site.recipe)
    needed = each * _still_to_come(site)
    folder = nearest(site)
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    found = f"{size(free)} free for checkpoints of {size(needed)} in all"
    remedy = "free some space, or lower training.keep"
    if free < each:
        return Finding("space", "bad", f"{found}: not one fits", remedy)
    return Finding("space", "ok", found) if needed <= free else warning("space", found, remedy)


def inodes(site: Site) -> Finding:
    """Room for the number of files of a run."""
    ranks = site.cluster.training.ranks
    needed = _still_to_come(site) * _FILES_OF_A_RANK * (ranks + 1) + _OTHER_FILES
    counts = os.statvfs(nearest(site))
    if not counts.f_files:
        return Finding("inodes", "ok", "the file system does not count them")
    found = f"{counts.f_favail:,} free, a run needs about {needed:,}"
    if needed <= counts.f_favail:
        return Finding("inodes", "ok", found)
    return Finding("inodes", "bad", found, "remove files, or ask for more of them")


def create(site: Site) -> Finding:
    """Whether a second creation of the same file and folder is refused."""
    with _scratch(site) as folder:
        file, sub = folder / "file", folder / "folder"
        file.touch(exist_ok=False)
        sub.mkdir()
        if _is_made_again(lambda: file.touch(exist_ok=False)) or _is_made_again(sub.mkdir):
            remedy = (
                "use a file system with exclusive creation: two attempts could claim one number"
            )
            return Finding("create", "bad", "an existing file was created again", remedy)
    return Finding("create", "ok", "an existing file is not created again")


def rename(site: Site) -> Finding:
    """Whether a renamed file replaces another one, and a synced folder has the new name."""
    with _scratch(site) as folder:
        old, new = folder / "old", folder / "new"
        old.write_text("old", encoding="utf-8")
        new.write_text("new", encoding="utf-8")
        began = time.perf_counter()
        new.replace(old)
        sync_directory(folder)
        took = time.perf_counter() - began
        if old.read_text(encoding="utf-8") != "new" or new.exists():
            remedy = "use a file system with atomic rename"
            return Finding("rename", "bad", "a renamed file did not replace the other", remedy)
    return _timed("rename", site, took, "to replace a file")


def sync_time(site: Site) -> Finding:
    """How long a small file takes to be synced: the median of a few."""
    times = []
    with _scratch(site) as folder:
        for number in range(_SYNCS):
            began = time.perf_counter()
            _write(folder / str(number), 4096)
            times.append(time.perf_counter() - began)
    return _timed("sync_time", site, statistics.median(times), "to write and sync 4 kB")


def write_rate(site: Site) -> Finding:
    """How fast a large file is written and synced."""
    with _scratch(site) as folder:
        began = time.perf_counter()
        _write(folder / "large", _LARGE)
        rate = _LARGE / (time.perf_counter() - began)
    found, limit = f"{size(rate)}/s written and synced", site.cluster.checks.write_mb_s
    if rate >= limit * 1e6:
        return Finding("write_rate", "ok", found)
    remedy = f"below checks.write_mb_s={limit:g}: saves will be slow; use another file system"
    return warning("write_rate", found, remedy)


def locks(site: Site) -> Finding:
    """Whether locks exclude where the kit needs them: here, and for MLflow's file in the workspace."""
    own = _lock_problem(Path(tempfile.gettempdir()))
    if own is not None:
        remedy = "set TMPDIR to a local disk: two commands could work on one run"
        return Finding("locks", "bad", f"{tempfile.gettempdir()}: {own}", remedy)
    with _scratch(site) as folder:
        problem = _lock_problem(folder)
    file = address.sqlite_file(site.recipe) if site.recipe.tracking.mlflow else None
    if problem is None:
        return Finding("locks", "ok", "they exclude a second process")
    if file is None:
        return Finding("locks", "ok", f"in the workspace: {problem}; nothing needs them there")
    remedy = "use an MLflow server (tracking.mlflow=http://HOST:5000): its sqlite file needs locks"
    return warning("locks", f"in the workspace: {problem}", remedy)


def nearest(site: Site) -> Path:
    """The workspace, or the nearest folder above it that exists."""
    return existing(Path(site.recipe.workspace))


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    whole = folder.absolute()
    return next(path for path in (whole, *whole.parents) if path.is_dir())


def _still_to_come(site: Site) -> int:
    """Checkpoints that the run will add to those on disk; one more while it is written."""
    training = site.recipe.training
    kept = checkpoints_kept(training, training.steps or 0) + 1
    return max(1, kept - len(site.run.committed_checkpoints()))


def _is_made_again(make: Callable[[], None]) -> bool:
    """Whether something that exists can be created once more."""
    try:
        make()
    except FileExistsError:
        return False
    return True


def _timed(name: str, site: Site, took: float, what: str) -> Finding:
    found, limit = f"{duration(took)} {what}", site.cluster.checks.sync_seconds
    if took <= limit:
        return Finding(name, "ok", found)
    remedy = f"above checks.sync_seconds={limit:g}: the file system is slow, or overloaded"
    return warning(name, found, remedy)


def _write(path: Path, bytes_: int) -> None:
    """Write random bytes, which no file system compresses, and sync them."""
    chunk = os.urandom(min(bytes_, _CHUNK))
    with path.open("xb") as stream:
        for _ in range(bytes_ // len(chunk)):
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())


def _lock_problem(folder: Path) -> str | None:
    """Why locks do not exclude there, or None."""
    path = folder / f"{_PREFIX}{uuid.uuid4().hex[:12]}.lock"
    try:
        with path.open("xb") as first, path.open("rb+") as second:
            fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB)  # sqlite's
            fcntl.lockf(first, fcntl.LOCK_UN)
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return "a lock does not exclude others"
    except OSError as error:
        return f"no locks ({error.strerror})"
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _scratch(site: Site) -> Iterator[Path]:
    """A folder of its own in the workspace, removed at the end."""
    folder = nearest(site) / f"{_PREFIX}{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        for path in folder.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
