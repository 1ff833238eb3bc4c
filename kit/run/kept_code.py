"""The code that a run keeps: from its first attempt on, jobs run that version, whatever submits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.store.paths import Run


def has(run: Run, module: str) -> bool:
    """Whether the jobs of a run have a module, given by its path, such as kit/cluster/task.py."""
    keeps = run.attempts.is_dir() and run.code.is_dir()
    return not keeps or (run.code / module).is_file()
