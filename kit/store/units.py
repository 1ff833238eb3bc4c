"""A stage is a sequence of units; a unit is a folder that is done, missing, stale or broken.

Task i of n makes the units i, i+n, ... that are not done: the result does not depend on n.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.errors import JobFailed, StageError
from kit.output import log, program, quantities
from kit.output.progress import progress_bar
from kit.store import manifest
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kit.store.records import Causes

MAX_NAMED = 5  # units listed by name; the rest is a count


@dataclass(frozen=True)
class Unit:
    """The smallest product of a stage: the files of a folder, with their causes."""

    name: str
    folder: Path
    causes: Causes
    make: Callable[[Path], Mapping[str, Any]]  # writes into the folder; returns facts about it
    published: bool = field(default=False, kw_only=True)  # with subfolders: see `manifest.commit`

    def state(self, *, verify: bool = False) -> manifest.State:
        """The state of its folder; a unit that is not done has to be made."""
        return manifest.state(self.folder, self.causes, verify=verify)

    @property
    def is_begun(self) -> bool:
        """Whether its folder exists; if the unit is missing, it was begun and not finished."""
        return self.folder.is_dir()

    def states(self, *, verify: bool = False) -> tuple[manifest.State, ...]:  # noqa: ARG002
        """The possible states."""
        return ("done", "missing", "stale", "broken")

    def faults(self, state: manifest.State, *, verify: bool = False) -> list[Fault]:
        """Its faults in that state; none unless it is stale or broken."""
        if state not in ("stale", "broken"):
            return []
        return [Fault(self.name, state, self.why(verify=verify) or state)]

    def why(self, *, verify: bool = False) -> str | None:
        """The reason why it is stale or broken; None if it is neither."""
        return manifest.difference(self.folder, self.causes, verify=verify)


@dataclass(frozen=True)
class Fault:
    """A unit that is stale or broken, and the reason."""

    unit: str
    state: manifest.State
    why: str


@dataclass(frozen=True)
class Survey:
    """The progress of a stage: the number of units in each state, and some of the faults."""

    counts: Mapping[str, int]  # by state, as in `census`; empty while the units are unknown
    faults: Sequence[Fault] = ()  # the first units that are stale or broken
    begun: Sequence[str] = ()  # units that were begun and not finished
    waits: str | None = None  # why the units are unknown

    @property
    def complete(self) -> bool:
        """Whether all units are done; False while the units are unknown."""
        return 0 < self.counts.get("done", 0) == sum(self.counts.values())


def make_units(name: str, units: Sequence[Unit], task: int = 0, tasks: int = 1) -> int:
    """Make the units of one task; returns the number made. Raises JobFailed if the disk is full."""
    todo = [unit for unit in units[task::tasks] if unit.state() != "done"]
    began = time.monotonic()
    with progress_bar(name, len(todo), "unit", every=math.inf) as report:
        for done, unit in enumerate(todo):
            report(done, unit.name)
            if not log.is_terminal():
                left = _time_left(began, done, len(todo))
                log.info(f"{name}: {unit.name} ({done + 1:,} of {len(todo):,}{left})")
            _make(name, unit)
    if not todo:
        finished = units[task::tasks]
        are = "is" if len(finished) == 1 else "are"
        log.info(f"{name}: nothing to do, {quantities.count(len(finished), 'unit')} {are} done")
    return len(todo)


def require(units: Sequence[Unit], remedy: str) -> None:
    """Raises StageError with `remedy` (a command) unless all units are done."""
    for unit in units:
        if (state := unit.state()) != "done":
            raise StageError(f"{unit.folder}: {state}; run {program.respelled(remedy)} first")


def census(units: Sequence[Unit], *, verify: bool = False) -> dict[str, int]:
    """The number of units in each possible state."""
    return dict(survey(units, verify=verify).counts)


def survey(units: Sequence[Unit], *, verify: bool = False) -> Survey:
    """The number of units in each state, with the faults of the first `MAX_NAMED`."""
    counts: dict[str, int] = {s: 0 for unit in units for s in unit.states(verify=verify)}
    faults: list[Fault] = []
    begun = []
    for unit in units:
        state = unit.state(verify=verify)
        counts[state] += 1
        if state == "missing" and unit.is_begun:
            begun.append(unit.name)
        if len(faults) < MAX_NAMED:
            faults += unit.faults(state, verify=verify)
    return Survey(counts, faults, begun)


class Tally:
    """Counts the finished units of a stage while other processes make them, with few file accesses."""

    def __init__(self, units: Sequence[Unit]) -> None:
        """The units, in their state before the work."""
        self.total = len(units)
        self._todo = [(unit, _manifest_time(unit)) for unit in units if unit.state() != "done"]

    def done(self) -> int:
        """The number done so far. A stale or broken unit counts once it has been made again."""
        self._todo = [
            (unit, before) for unit, before in self._todo if _manifest_time(unit) in (None, before)
        ]
        return self.total - len(self._todo)


def _manifest_time(unit: Unit) -> int | None:
    """The modification time (ns) of a unit's manifest, its last file; None without one."""
    try:
        return (unit.folder / MANIFEST).stat().st_mtime_ns
    except OSError:
        return None


def _make(name: str, unit: Unit) -> None:
    try:
        manifest.clear(unit.folder, published=unit.published)
        facts = unit.make(unit.folder)
        manifest.commit(unit.folder, unit.causes, published=unit.published, **facts)
    except OSError as error:  # a full disk, an unreadable file: no bug of ours
        place = error.filename or unit.folder
        raise JobFailed(
            f"{name}: {unit.name}: {place}: {error.strerror or error}; fix this, then run or submit it "
            "again"
        ) from error


def _time_left(began: float, done: int, total: int) -> str:
    if not done:
        return ""
    seconds = (time.monotonic() - began) / done * (total - done)
    return f", {quantities.duration(seconds)} left"
