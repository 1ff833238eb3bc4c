"""The run directory: all that a submitted job reads.

It is made at the first submission: the resolved recipe and cluster, the code, the list of packages,
an identity of its own. A later submission brings its own recipe until training has begun; from then on
it must be the same, and code and packages stay as they are, unless `jobs.train amend` changes them, on
record.

`code` is a link to a snapshot named by its content: an attempt that has begun keeps to the snapshot
that it began with.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config import amendments, presets
from kit.errors import ConfigError
from kit.run import begun
from kit.run.environment import installed
from kit.store.files import file_hash, read_json, sync_directory, text_hash, write_json, write_text

if TYPE_CHECKING:
    from kit.config.amendments import Amendment
    from kit.config.run import Project
    from kit.run.proposal import Proposal
    from kit.store.paths import Run

_PACKAGES = ("jobs", "kit")
# Where code whose schedule can go on from a rate has it, by version.
_SCHEDULES = ("kit/plan/schedule.py", "kit/schedule.py")


def prepare(project: Project) -> Run:
    """Make the run directory of a project, or check that it is of this recipe.

    Raises RunError where another recipe is already trained there.
    """
    begun.refuse_other(project)
    lay_out(project)
    return project.run


def lay_out(project: Project) -> None:
    """Write what a job reads; code and packages only until training has begun."""
    run = project.run
    run.root.mkdir(parents=True, exist_ok=True)
    identify(run, project.recipe.name)
    _write_resolved(project)
    if not run.attempts.is_dir():
        write_text(run.environment, _lines(installed()))
        before = run.code.resolve()
        if before == _home():
            return  # a job of the run itself
        fresh = _snapshot(run)
        _point_to(run, fresh)
        if before.is_dir() and not before.samefile(fresh):
            shutil.rmtree(before)


def lay_out_beside(job: Project, shelf: Run) -> None:
    """Write what a job beside the training reads, in a directory of its own; the code on a shared shelf.

    It is the code and packages of now: those of the training stay as they are.
    """
    _write_resolved(job)
    write_text(job.run.environment, _lines(installed()))
    _point_to(job.run, _snapshot(shelf))


def _write_resolved(project: Project) -> None:
    write_json(project.run.recipe, project.recipe.model_dump(mode="json"))
    write_json(project.run.cluster, project.cluster.model_dump(mode="json"))


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
    """Put an amendment on record, then into effect for the attempts to come; returns what changed.

    With `code` also the checkout's code and this environment's packages. A crash leaves nothing, or a
    record that the next submission (of code: the same amendment again) puts into effect. Raises
    ConfigError where the run's code does not know what the amendment says.
    """
    rows = list(amendment.rows)
    if not code:
        _refuse_code_that_jumps(run, rows)
    fresh, packages = None, [""]
    if code:
        now, before = time.time(), run.code.resolve()
        fresh, packages = _snapshot(run), installed()
        if (old := _content(before)) != (new := _content(fresh)):
            rows.append({"time": now, "key": amendments.CODE, "old": old, "new": new})
        had = run.environment.read_text(encoding="utf-8").split()
        if had != packages:
            gone, come = sorted({*had} - {*packages}), sorted({*packages} - {*had})
            rows.append({"time": now, "key": amendments.ENVIRONMENT, "old": gone, "new": come})
    if rows:
        amendments.record(run, rows)
    write_json(run.cluster, amendment.cluster.model_dump(mode="json"))
    write_json(run.recipe, amendment.recipe.model_dump(mode="json"))
    if fresh is not None:
        write_text(run.environment, _lines(packages))
        _point_to(run, fresh)
    return rows


def _refuse_code_that_jumps(run: Run, rows: list[Amendment]) -> None:
    """A run begun by an earlier version has code whose schedule is always that of the whole run."""
    knows = any((run.code / name).is_file() for name in _SCHEDULES)
    for row in rows:
        continues = row.get("schedule") == amendments.CONTINUE
        if continues and run.code.is_dir() and not knows:
            raise ConfigError(
                f"{row['key']}: with the code that {run.root} keeps the learning rate would jump; give "
                "--code, to take this checkout's, or --schedule anew, to let it jump"
            )


def _lines(texts: list[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def _home() -> Path:
    """The folder of the packages that run: a checkout, or where a wheel is installed."""
    return Path(__file__).resolve().parents[2]


def _snapshot(run: Run) -> Path:
    """Copy the packages that run into the run directory; the copy is whole or absent.

    What Python has compiled comes along: it holds for a file of the same size and time.
    """
    passing = shutil.ignore_patterns(
        *("*.pyc.*", "*.tmp.*"),  # half written
        presets.SHARE,  # a resolved recipe holds what it needs of these files
    )
    fresh = run.root.resolve() / f".code-{uuid.uuid4().hex[:8]}"
    for package in _PACKAGES:
        shutil.copytree(_home() / package, fresh / package, ignore=passing)
    content = _content(fresh)
    named = fresh.with_name(f"{run.code.name}-{content}")
    if named.is_dir() and _content(named) == content:
        shutil.rmtree(fresh)
        return named
    if named.is_dir():  # somebody has edited it
        named = named.with_name(f"{named.name}-{uuid.uuid4().hex[:8]}")
    try:
        return fresh.rename(named)
    except OSError:  # another job beside the training has just brought it
        if _content(named) != content:
            raise
        shutil.rmtree(fresh)
        return named


def _content(code: Path) -> str:
    """One string for the Python files of a snapshot, names and bytes."""
    files = sorted(path for package in _PACKAGES for path in (code / package).rglob("*.py"))
    pairs = [(path.relative_to(code).as_posix(), file_hash(path)) for path in files]
    return f"{text_hash(repr(pairs)):016x}"


def _point_to(run: Run, snapshot: Path) -> None:
    """Make `code` a link to a snapshot, in one step."""
    if run.code.is_dir() and not run.code.is_symlink():  # as an earlier version made it
        run.code.rename(run.code.with_name(f"{run.code.name}-{_content(run.code)}"))
    link = run.code.with_name(f".code-{uuid.uuid4().hex[:8]}")
    link.symlink_to(os.path.relpath(snapshot, run.root.resolve()))
    link.replace(run.code)
    sync_directory(run.root)
