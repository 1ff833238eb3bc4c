"""The process of this machine that runs the stages of a run, if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.cluster import local, lock

if TYPE_CHECKING:
    from kit.store.paths import Run


@dataclass(frozen=True)
class LocalProcess:
    """The process that is running a run's stages, or was killed while it did."""

    number: str
    alive: bool


def find(run: Run) -> LocalProcess | None:
    """Find the process of a run; None if there is none and the last one ended normally."""
    locked = run.root.is_dir() and lock.is_held(run)
    try:
        process = run.supervisor.read_text(encoding="utf-8")
    except FileNotFoundError:
        return LocalProcess("?", alive=True) if locked else None
    return LocalProcess(process, locked or local.is_starting(process))
