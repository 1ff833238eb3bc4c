"""A run with its recipe and its cluster: one value, made once by a command line and handed down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.store.paths import Run, Workspace

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe


@dataclass(frozen=True)
class Project:
    """The subject of a command: a run, its recipe, and the cluster it is submitted to."""

    run: Run
    recipe: Recipe
    cluster: Cluster

    @classmethod
    def of(cls, recipe: Recipe, cluster: Cluster) -> Project:
        """The project of a recipe, whose run may not exist yet."""
        return cls(run_of(recipe), recipe, cluster)


def run_of(recipe: Recipe) -> Run:
    """The run directory of a recipe, which may not exist yet."""
    return Workspace(Path(recipe.workspace)).run(recipe.name)
