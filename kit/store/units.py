"""A stage is a row of units; a unit is a folder that is done, missing, stale or broken.

Task i of n makes the units i, i+n, ... that are not done: what comes out does not depend on n.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.errors import JobFailed, StageError
from kit.output import log, quantities
from kit.output.progress import shown
from kit.store import manifest
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kit.store.records import Causes

NAMED = 5  # units told by name; of more there is a count


@dataclass(frozen=True)
class Unit:
    """The smallest thing a stage makes: files in a folder, from stated causes."""

    name: str
    folder: Path
    causes: Causes
    make: Callable[[Path], Mapping[str, Any]]  # writes into the folder; returns facts about it

    def state(self, *, verify: bool = False) -> manifest.State:
        """Whether it has to be made."""
        return manifest.state(self.folder, self.causes, verify=verify)

    @property
    def is_begun(self) -> bool:
        """Whether something of it lies there, where it is missing."""
        return self.folder.is_dir()

    def states(self, *, verify: bool = False) -> tuple[manifest.State, ...]:  # noqa: ARG002
        """The states that it can be found in."""
        return ("done", "missing", "stale", "broken")

    def faults(self, state: manifest.State, *, verify: bool = False) -> list[Fault]:
        """What is wrong with it in that state."""
        if state not in ("stale", "broken"):
            return []
        return [Fault(self.name, state, self.why(verify=verify) or state)]

    def why(self, *, verify: bool = False) -> str | None:
        """Why it is stale or broken, in words; None where it is neither."""
        return manifest.difference(self.folder, self.causes, verify=verify)


@dataclass(frozen=True)
class Fault:
    """A unit that is stale or broken, and why."""

    unit: str
    state: manifest.State
    why: str


@dataclass(frozen=True)
class Survey:
    """What there is of a stage: how many units are in each state, and what is wrong with some of them."""

    counts: Mapping[str, int]  # with the four keys of `census`; empty while the units are not known
    faults: Sequence[Fault] = ()  # the first that are stale or broken
    begun: Sequence[str] = ()  # units that were begun and not finished
    waits: str | None = None  # why the units are not known

    @property
    def complete(self) -> bool:
        """Whether all is done; not so of a stage whose units are not known."""
        return 0 < self.counts.get("done", 0) == sum(self.counts.values())


def make_units(name: str, units: Sequence[Unit], task: int = 0, tasks: int = 1) -> int:
    """Make the units of one task; returns how many had to be made. Raises JobFailed for a full disk."""
    todo = [unit for unit in units[task::tasks] if unit.state() != "done"]
    began = time.monotonic()
    with shown(name, len(todo), "unit", every=math.inf) as at:
        for done, unit in enumerate(todo):
            at(done, unit.name)
            if not log.is_terminal():
                left = _time_left(began, done, len(todo))
                log.info(f"{name}: {unit.name} ({done + 1:,} of {len(todo):,}{left})")
            _make(name, unit)
    if not todo:
        done_units = units[task::tasks]
        are = "is" if len(done_units) == 1 else "are"
        log.info(f"{name}: nothing to do, {quantities.count(len(done_units), 'unit')} {are} done")
    return len(todo)


def require(units: Sequence[Unit], remedy: str) -> None:
    """Raises StageError with `remedy` (a command) where a unit is not done."""
    for unit in units:
        if (state := unit.state()) != "done":
            raise StageError(f"{unit.folder}: {state}; run {remedy} first")


def census(units: Sequence[Unit], *, verify: bool = False) -> dict[str, int]:
    """How many units are in each state; always all that they can be in."""
    return dict(survey(units, verify=verify).counts)


def survey(units: Sequence[Unit], *, verify: bool = False) -> Survey:
    """The same with what is wrong with the first `NAMED` units that are stale or broken."""
    counts: dict[str, int] = {s: 0 for unit in units for s in unit.states(verify=verify)}
    faults: list[Fault] = []
    begun = []
    for unit in units:
        state = unit.state(verify=verify)
        counts[state] += 1
        if state == "missing" and unit.is_begun:
            begun.append(unit.name)
        if len(faults) < NAMED:
            faults += unit.faults(state, verify=verify)
    return Survey(counts, faults, begun)


class Tally:
    """How many of a stage's units are done, while other processes make them: a look at few files."""

    def __init__(self, units: Sequence[Unit]) -> None:
        """The units as they stand before the work."""
        self.total = len(units)
        self._todo = [(unit, _made(unit)) for unit in units if unit.state() != "done"]

    def done(self) -> int:
        """How many are done by now. One that was stale or broken counts when it has been made again."""
        self._todo = [(u, before) for u, before in self._todo if _made(u) in (None, before)]
        return self.total - len(self._todo)


def _made(unit: Unit) -> int | None:
    """When a unit's manifest was written, which comes last; None without one."""
    try:
        return (unit.folder / MANIFEST).stat().st_mtime_ns
    except OSError:
        return None


def _make(name: str, unit: Unit) -> None:
    try:
        manifest.clear(unit.folder)
        facts = unit.make(unit.folder)
        manifest.commit(unit.folder, unit.causes, **facts)
    except OSError as error:  # a full disk, a file that cannot be read: no bug of ours
        place = error.filename or unit.folder
        raise JobFailed(
            f"{name}: {unit.name}: {place}: {error.strerror or error}; mend that, and run or "
            "submit it again"
        ) from error


def _time_left(began: float, done: int, total: int) -> str:
    if not done:
        return ""
    seconds = (time.monotonic() - began) / done * (total - done)
    return f", {quantities.duration(seconds)} left"
