"""Where the run of a recipe lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.store.paths import Run, Workspace

if TYPE_CHECKING:
    from kit.config.recipe import Recipe


def run_of(recipe: Recipe) -> Run:
    """The run directory of a recipe, which may not be there yet."""
    return Workspace(Path(recipe.workspace)).run(recipe.name)
