"""Who works on a run on this machine, or was killed while it did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import local, lock

if TYPE_CHECKING:
    from kit.store.paths import Run


@dataclass(frozen=True)
class LocalProcess:
    """The process of this machine that works on a run, or did and was killed."""

    number: str
    alive: bool


def of(run: Run) -> LocalProcess | None:
    """Who works on a run on this machine, or was killed while it did; None where all ended in order."""
    held = run.root.is_dir() and lock.is_held(run)
    try:
        process = run.supervisor.read_text(encoding="utf-8")
    except FileNotFoundError:
        return LocalProcess("?", alive=True) if held else None
    return LocalProcess(process, held or _is_starting(process))


def _is_starting(process: str) -> bool:
    """Whether it is a supervisor that does not hold its run yet."""
    try:
        return local.__name__.encode() in (Path("/proc") / process / "cmdline").read_bytes()
    except OSError:
        return False
