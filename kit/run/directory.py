"""The run directory: all that a submitted job reads.

The first submission creates it, with the resolved recipe and cluster, the code, the list of packages, and
an identity. Later submissions replace recipe, code and packages until training has begun; from then on the
recipe must be the same, and code and packages are fixed, unless `jobs.train amend` changes them, on record.

`code` is a link to a snapshot named by its content: an attempt keeps the snapshot that it began with.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config import amendments, presets
from kit.config.defaults import as_recorded
from kit.errors import ConfigError
from kit.run import begun, commit
from kit.run.environment import installed_packages, record_packages
from kit.store.files import file_hash, read_json, sync_directory, text_hash, write_json

if TYPE_CHECKING:
    from kit.config.amendments import Amendment
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.config.section import Section
    from kit.run.proposal import Proposal
    from kit.store.paths import Run

_PACKAGES = ("jobs", "kit")
# One of these files is in all code that can continue a schedule from a rate, by version.
_SCHEDULE_FILES = ("kit/plan/schedule.py", "kit/schedule.py")


def prepare(project: Project) -> Run:
    """Create the run directory of a project, or check that it belongs to this recipe.

    Raises RunError if another recipe is already being trained there.
    """
    begun.refuse_other(project)
    lay_out(project)
    return project.run


def lay_out(project: Project) -> None:
    """Write the files that a job reads; code and packages only until training has begun."""
    run = project.run
    run.root.mkdir(parents=True, exist_ok=True)
    identify(run, project.recipe.name)
    _write_resolved(run, project.recipe, project.cluster, same_code=run.attempts.is_dir())
    if not run.attempts.is_dir():
        record_packages(run, in_container=project.cluster.container is not None)
        before = run.code.resolve()
        if before == _home():
            return  # a job of the run itself
        fresh = _snapshot(run)
        _point_to(run, fresh)
        if before.is_dir() and not before.samefile(fresh):
            shutil.rmtree(before)


def lay_out_beside(job: Project, shelf: Run) -> None:
    """Write the files of a job on one checkpoint to its own directory, its code to a shared one (`shelf`).

    The job runs the current code and packages, which need not be those of the training.
    """
    _write_resolved(job.run, job.recipe, job.cluster, same_code=False)
    record_packages(job.run, in_container=job.cluster.container is not None)
    _point_to(job.run, _snapshot(shelf))


def _write_resolved(run: Run, recipe: Recipe, cluster: Cluster, *, same_code: bool) -> None:
    """Write both; with `same_code`, in the form of the run's code, which may be an earlier version."""
    sections: tuple[tuple[Path, Section], ...] = ((run.recipe, recipe), (run.cluster, cluster))
    for path, section in sections:
        if same_code and path.is_file():
            write_json(path, as_recorded(section, read_json(path)))
        else:
            write_json(path, section.model_dump(mode="json"))


def identify(run: Run, name: str, *, rehearsal_of: str | None = None) -> None:
    """Give a run its identity, if it has none."""
    if not run.identity.is_file():
        identity = {"id": uuid.uuid4().hex, "name": name, "time": time.time()}
        write_json(
            run.identity, identity | ({"rehearsal_of": rehearsal_of} if rehearsal_of else {})
        )


def is_rehearsal(run: Run) -> bool:
    """Whether the directory is that of a rehearsal."""
    return run.identity.is_file() and "rehearsal_of" in read_json(run.identity)


def amend(run: Run, amendment: Proposal, *, code: bool = False) -> list[Amendment]:
    """Record an amendment, then apply it for the attempts to come; returns the changes.

    With `code`, also take the code and packages of the current environment. A crash leaves either nothing,
    or a record that the next submission applies (for code: the same amendment again). Raises ConfigError if
    the run's code is too old for the amendment.
    """
    rows = list(amendment.rows)
    if not code:
        _refuse_code_that_jumps(run, rows)
    fresh, in_container = None, amendment.cluster.container is not None
    if code:
        now, before = time.time(), run.code.resolve()
        fresh = _snapshot(run)
        if (old := _content(before)) != (new := _content(fresh)):
            rows.append({"time": now, "key": amendments.CODE, "old": old, "new": new})
        recorded = run.environment.is_file()
        previous = run.environment.read_text(encoding="utf-8").split() if recorded else []
        packages = previous if in_container else installed_packages()
        if previous != packages:
            removed, added = (
                sorted({*previous} - {*packages}),
                sorted({*packages} - {*previous}),
            )
            rows.append({"time": now, "key": amendments.ENVIRONMENT, "old": removed, "new": added})
    if rows:
        amendments.record(run, rows)
    _write_resolved(run, amendment.recipe, amendment.cluster, same_code=not code)
    if fresh is not None:
        record_packages(run, in_container=in_container)
        _point_to(run, fresh)
    return rows


def _refuse_code_that_jumps(run: Run, rows: list[Amendment]) -> None:
    """Code of an earlier version cannot continue a schedule: it always follows that of the whole run."""
    supported = any((run.code / name).is_file() for name in _SCHEDULE_FILES)
    for row in rows:
        continues = row.get("schedule") == amendments.CONTINUE
        if continues and run.code.is_dir() and not supported:
            raise ConfigError(
                f"{row['key']}: with the code in {run.root} the learning rate would jump; add --code to "
                "use the code of this checkout, or `--schedule anew` to let it jump"
            )


def _home() -> Path:
    """The folder of the running packages: a checkout, or the place of an installed wheel."""
    return Path(__file__).resolve().parents[2]


def _snapshot(run: Run) -> Path:
    """Copy the running packages into the run directory; the copy is whole or absent.

    Compiled files are copied too: they are valid for a source file of the same size and time.
    """
    ready = _kept_as(run, _content(_home()))
    if ready is not None:
        return ready
    ignored = shutil.ignore_patterns(
        *("*.pyc.*", "*.tmp.*"),  # half written
        presets.SHARE,  # a resolved recipe already holds the parts of them that it needs
    )
    fresh = run.root.resolve() / f".code-{uuid.uuid4().hex[:8]}"
    for package in _PACKAGES:
        shutil.copytree(_home() / package, fresh / package, ignore=ignored, copy_function=_copy)
    mode = stat.S_IMODE(fresh.stat().st_mode)  # by the umask; copytree takes that of the source
    for folder in fresh.rglob("*"):
        if folder.is_dir():
            folder.chmod(mode)
    commit.record(fresh, _home(), _PACKAGES)
    return _named(run, fresh)


def _kept_as(run: Run, content: str) -> Path | None:
    """The snapshot of this content that the run has; None if it has none, or if somebody has edited it."""
    snapshot = _place(run, content)
    return snapshot if snapshot.is_dir() and _content(snapshot) == content else None


def _place(run: Run, content: str) -> Path:
    return run.root.resolve() / f"{run.code.name}-{content}"


def _named(run: Run, fresh: Path) -> Path:
    """Name a fresh snapshot by its content; returns the one that another job has just created, if any."""
    content = _content(fresh)
    final = _place(run, content)
    if final.is_dir() and _content(final) != content:
        final = final.with_name(f"{final.name}-{uuid.uuid4().hex[:8]}")
    try:
        return fresh.rename(final)
    except OSError:  # another job of this run has just created it
        if _content(final) != content:
            raise
        shutil.rmtree(fresh)
        return final


def _copy(source: str, target: str) -> None:
    """Copy a file with its times, but with the user's umask."""
    shutil.copyfile(source, target)
    times = Path(source).stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def _content(code: Path) -> str:
    """One hash of the Python files of a snapshot, names and bytes."""
    files = sorted(path for package in _PACKAGES for path in (code / package).rglob("*.py"))
    pairs = [(path.relative_to(code).as_posix(), file_hash(path)) for path in files]
    return f"{text_hash(repr(pairs)):016x}"


def _point_to(run: Run, snapshot: Path) -> None:
    """Make `code` a link to a snapshot, atomically."""
    if run.code.is_dir() and not run.code.is_symlink():  # made by an earlier version
        run.code.rename(run.code.with_name(f"{run.code.name}-{_content(run.code)}"))
    link = run.code.with_name(f".code-{uuid.uuid4().hex[:8]}")
    link.symlink_to(os.path.relpath(snapshot, run.root.resolve()))
    link.replace(run.code)
    sync_directory(run.root)
