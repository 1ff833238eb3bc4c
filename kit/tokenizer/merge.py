"""The merge stage: merge the word counts of all groups."""

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
    """One unit per mode of spaces. Raises StageError until all groups are counted."""
    workspace = Workspace(Path(recipe.workspace))
    counted = count.units(run, recipe)
    require(counted, "jobs.tokenizer")
    merged = []
    for spaces in count.space_modes(recipe):
        folders = [unit.folder for unit in counted if unit.causes["section"]["spaces"] == spaces]
        inputs = {folder.name: manifest.fingerprint(folder, "jobs.tokenizer") for folder in folders}
        causes = manifest.causes("merge", tokens.TOKENIZER_VERSION, {"spaces": spaces}, inputs)
        make = functools.partial(_make, folders)
        merged.append(Unit(spaces, workspace.words(spaces), causes, make))
    return merged


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    make_units("merge", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def _make(folders: Sequence[Path], folder: Path) -> Mapping[str, Any]:
    sources = [counts.read(manifest.verified(source, "jobs.tokenizer")) for source in folders]
    return {"words": counts.write(folder, counts.merge(sources))}
