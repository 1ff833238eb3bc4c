"""What `training.micro_batch: auto` becomes: as a rehearsal has found, else as computed; with the reason.

recipe = resolved(project)                           # at submission: no `auto` is left
recipe = changed(before, Project(run, after, cluster))   # by an amendment or a fork
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.plan import micro_batch
from kit.run import rehearsals

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.config.run import Project


def resolved(project: Project) -> Recipe:
    """The recipe of a project, whose precision is resolved, with a number for its micro-batch.

    Raises ConfigError if the memory of the GPU is unknown.
    """
    recipe = project.recipe
    if recipe.training.micro_batch != "auto":
        return recipe
    found = rehearsals.micro_batch(project) or micro_batch.resolve(recipe, project.cluster)
    return micro_batch.with_micro_batch(recipe, *found)


def changed(before: Recipe, project: Project) -> Recipe:
    """The changed recipe of a project: `auto` is resolved for it, and another number has no reason."""
    recipe, own = project.recipe, project.recipe.training.micro_batch
    if own in ("auto", before.training.micro_batch):
        return resolved(project)
    return micro_batch.with_micro_batch(recipe, recipe.training.micro_batch_size)
