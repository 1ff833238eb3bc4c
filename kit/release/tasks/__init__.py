"""Scores on tasks of lm-evaluation-harness, whose files and data lie on this machine.

for task in tasks_of(recipe.release): ...       # TaskFile: its file, its data, their hashes
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config import presets, score_tasks
from kit.errors import StageError
from kit.release.tasks import files, leaderboard

if TYPE_CHECKING:
    from kit.config.recipe import Release
    from kit.release.tasks.files import TaskFile

HARNESS = "lm_eval"  # the package


def tasks_of(release: Release) -> list[TaskFile]:
    """The tasks that a recipe names, in its order.

    Raises StageError for one whose file or data is missing or damaged, without the package, and for two
    tasks of one name.
    """
    if release.tasks:
        harness_version()
    found: dict[str, TaskFile] = {}
    for number, given in enumerate(release.tasks):
        key = f"release.tasks.{number}={given}"
        for task in _tasks(key, given, release):
            if task.name in found:
                raise StageError(
                    f"{key}: {task.path} and {found[task.name].path} are both named {task.name}; rename "
                    "one, or leave it out"
                )
            found[task.name] = task
    return [*found.values()]


def harness_version() -> str:
    """The version of lm-evaluation-harness. Raises StageError if it is not installed."""
    try:
        return importlib.metadata.version(HARNESS)
    except importlib.metadata.PackageNotFoundError:
        raise StageError(
            f"release.tasks: {HARNESS} is not installed; pip install 'ekiden[scores]', or leave the key out"
        ) from None


def _tasks(key: str, given: str, release: Release) -> list[TaskFile]:
    if not presets.is_name(given):
        return files.read(key)
    if release.tasks_data is None:
        raise StageError(f"{key}: set release.tasks_data to the folder that holds its data")
    folder = Path(release.tasks_data)
    return [leaderboard.task(key, name, folder) for name in score_tasks.names(given)]
