"""The tasks of a recipe as units of the stage `evaluate`, and their scores as records."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kit.release.tasks import harness, harness_version, tasks_of
from kit.store import manifest
from kit.store.files import read_json, write_json
from kit.store.paths import MANIFEST
from kit.store.units import Unit
from kit.tracking import scores as ledger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.release.source import ReleaseSource
    from kit.release.tasks.files import TaskFile
    from kit.store.paths import Run
    from kit.tracking.scores import ScoreRow

VERSION = 1  # raise when the same weights come to get other scores on a task
SCORES = "scores.json"  # rows of the ledger of evaluations, without their time
KEYS = frozenset(
    {"tasks", "tasks_data", "tasks_text"}
)  # of the section release, that only scores depend on


def units(
    run: Run, recipe: Recipe, source: ReleaseSource, weights: Mapping[str, str]
) -> list[Unit]:
    """A unit for each task of the recipe. Raises StageError as `tasks_of`."""
    return [_unit(run, recipe, source, weights, task) for task in tasks_of(recipe.release)]


def rows(source: ReleaseSource, weights: Mapping[str, str]) -> list[ScoreRow]:
    """The scores of these weights on tasks, those included that the recipe no longer names."""
    return [
        row | {"time": ledger.time_of(folder)}
        for folder in _made(source, weights)
        for row in read_json(folder / SCORES)
    ]


def fingerprints(source: ReleaseSource, weights: Mapping[str, str]) -> dict[str, str]:
    """A hash of the same scores by task: causes of an export."""
    folders = _made(source, weights)
    return {folder.name: manifest.fingerprint(folder, "jobs.evaluate") for folder in folders}


def _made(source: ReleaseSource, weights: Mapping[str, str]) -> list[Path]:
    """The folders of tasks on which these weights were scored."""
    folders = sorted(path.parent for path in source.place.task_scores.glob(f"*/{MANIFEST}"))
    return [
        folder
        for folder in folders
        if weights.items() <= manifest.read(folder, "jobs.evaluate")["causes"]["inputs"].items()
    ]


def _unit(
    run: Run, recipe: Recipe, source: ReleaseSource, weights: Mapping[str, str], task: TaskFile
) -> Unit:
    release = recipe.release
    inputs = {
        **weights,
        "task": task.definition,
        "task_data": task.data,
        "lm_eval": harness_version(),
    }
    section = {"dtype": release.dtype, "text": release.tasks_text}
    causes = manifest.causes("evaluate-task", VERSION, section, inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        found = harness.scores(run, task)
        made, now = _rows(recipe, source, weights, task, found), time.time()
        write_json(folder / SCORES, made)
        ledger.add(source.run, [row | {"time": now} for row in made])
        return {"time": now}

    return Unit(task.name, source.place.task_scores / task.name, causes, make)


def _rows(
    recipe: Recipe,
    source: ReleaseSource,
    weights: Mapping[str, str],
    task: TaskFile,
    found: Mapping[str, Any],
) -> list[Any]:
    """The rows of an evaluation but for their time, the task's main metric first."""
    common: dict[str, Any] = {
        "kind": "score",
        "step": source.checkpoint.step,
        "checkpoint": source.checkpoint.folder.name,
        "weights": weights["weights"],
        "dtype": recipe.release.dtype,
        "task": task.name,
        "data": task.data,
        "text": recipe.release.tasks_text,
        "version": task.version,
        "definition": task.definition,
        "harness": f"lm-eval {harness_version()}",
        "shots": found["shots"],
        "examples": found["examples"],
    }
    if task.hub is not None:
        common["hub"] = list(task.hub)
    metrics = sorted(found["metrics"], key=lambda one: one["metric"] != task.metric)
    made: list[Any] = [common | one for one in metrics]
    if made:
        made[0]["main"] = True
    return made
