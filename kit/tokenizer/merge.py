"""The word counts of all groups into one: the merge stage."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import tokens
from kit.store import manifest
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units, require
from kit.tokenizer import count, counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """One unit for each way to treat spaces. Raises StageError while a group is not counted."""
    workspace = Workspace(Path(recipe.workspace))
    counted = count.units(run, recipe)
    require(counted, "jobs.tokenizer")
    made = []
    for spaces in count.ways(recipe):
        folders = [unit.folder for unit in counted if unit.causes["section"]["spaces"] == spaces]
        inputs = {folder.name: manifest.fingerprint(folder, "jobs.tokenizer") for folder in folders}
        causes = manifest.causes("merge", tokens.TOKENIZER_VERSION, {"spaces": spaces}, inputs)
        make = functools.partial(_make, folders)
        made.append(Unit(spaces, workspace.words(spaces), causes, make))
    return made


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    make_units("merge", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def _make(folders: Sequence[Path], folder: Path) -> Mapping[str, Any]:
    sources = [counts.read(manifest.verified(source, "jobs.tokenizer")) for source in folders]
    return {"words": counts.write(folder, counts.merge(sources))}
