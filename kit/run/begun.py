"""A run keeps the recipe it was started with: refuses a different one, and suggests what to type instead.

A different recipe would train another model, but every file of the run comes from the old one: a command
that used them would answer the new question with the old result.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config import amendments
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import differing_keys, read_resolved
from kit.errors import ConfigError, RunError
from kit.output import program
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Collection

    from kit.config.run import Project
    from kit.store.paths import Run

_REASON = "training.micro_batch_reason: "
_MAX_LISTED = 3  # differences that fit into one line
_SHARED = ("corpus.", "tokenizer.", "tokens.")  # made once for all runs of a workspace


def differences(project: Project) -> list[str]:
    """The differences between a recipe and its run, as `key: the run's -> the recipe's`.

    Amendments count as the run's own. Empty if the run has not begun.
    """
    own = _own(project)
    return [] if own is None else _differing(own, project.recipe)


def own(project: Project) -> Project:
    """The project with the recipe that its run was started with, amendments included.

    The project itself if that is no different, or the run has not begun.
    """
    recipe = _own(project)
    if recipe is None or not _differing(recipe, project.recipe):
        return project
    return replace(project, recipe=recipe)


def is_on_its_cluster(project: Project) -> bool:
    """Whether the cluster is the one that the run was submitted to last; true if it has not begun."""
    run = project.run
    if not (run.begun and run.cluster.is_file()):
        return True
    return not differing_keys(_own_cluster(run), project.cluster)


def refuse_other(project: Project, spare: Collection[str] = ()) -> None:
    """Raises RunError if a recipe's run was started with a different one; keys in `spare` may differ."""
    lines = [line for line in differences(project) if line.split(": ", 1)[0] not in spare]
    if not lines:
        return
    raise RunError(
        f"{project.run.root}: this run was started with a different recipe ({abridged(lines)}); "
        f"{_remedy(project)}"
    )


def refuse_change_under(project: Project, job: str) -> None:
    """Raise RunError unless the recipe and cluster are those that a job in the queue was submitted with.

    It reads them from the run directory, where a submission would replace them.
    """
    lines = _changes(project)
    if not lines:
        return
    raise RunError(
        f"{project.run.root}: {job} of this run is in the queue, and reads another recipe or cluster file "
        f"than yours ({abridged(lines)}); undo the change, or first: "
        f"{program.command('pipeline', 'cancel', project.run.root)}"
    )


def refuse_base_model(run: Run, recipe: Recipe) -> None:
    """Raise ConfigError for `release.base_model` of a run that is no fork."""
    if recipe.release.base_model is not None and not run.origin.is_file():
        raise ConfigError(
            f"release.base_model={recipe.release.base_model} has no effect: {run.root} is not a fork; "
            "leave it out"
        )


def _changes(project: Project) -> list[str]:
    """The differences between recipe and cluster and those recorded, amendments included."""
    run = project.run
    if not (run.recipe.is_file() and run.cluster.is_file()):
        return []
    rows = amendments.read(run)
    recipe = amendments.apply_to_recipe(rows, read_resolved(run.recipe, Recipe))
    of_cluster = differing_keys(_own_cluster(run), project.cluster)
    return [*_differing(recipe, project.recipe), *(f"cluster.{line}" for line in of_cluster)]


def _own_cluster(run: Run) -> Cluster:
    """The cluster that the run was submitted to last, with its amendments."""
    return amendments.apply_to_cluster(amendments.read(run), read_resolved(run.cluster, Cluster))


def _differing(own: Recipe, recipe: Recipe) -> list[str]:
    """The differing keys; another reason for the same micro-batch is no difference."""
    return [line for line in differing_keys(own, recipe) if not line.startswith(_REASON)]


def abridged(lines: list[str]) -> str:
    """The first differences on one line, and the number of the others."""
    more = f"; and {len(lines) - _MAX_LISTED} more" if len(lines) > _MAX_LISTED else ""
    return "; ".join(lines[:_MAX_LISTED]) + more


def _remedy(project: Project) -> str:
    """The command to type: an amendment if all differences may be amended, else a new name."""
    own, recipe = _own(project), project.recipe
    assert own is not None
    differing = _differing(own, recipe)
    changes = {
        key: values
        for key, values in amendments.differences(own, recipe).items()
        if any(line.startswith((f"{key}: ", f"{key}.")) for line in differing)
    }
    new_run = f"name={_free_name(recipe)}"
    if all(amendments.is_in(key, amendments.MAY_CHANGE) for key in changes):
        given = (f"{key}={_text(new)}" for key, (_, new) in changes.items())
        amend = program.command("train", "amend", project.run.root, *given)
        return f"to change this run: {amend}; for a new run add {new_run}"
    if any(amendments.is_in(key, _SHARED) for key in changes):
        new_run += " and another workspace="
    return (
        "to use it as it is, name its directory in place of the recipe; "
        f"for a new run add {new_run}; or see ekiden train amend and fork"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _own(project: Project) -> Recipe | None:
    """The recipe of the run, with amendments; None if it has not begun."""
    run = project.run
    if not (run.begun and run.recipe.is_file()):
        return None
    own = amendments.apply_to_recipe(amendments.read(run), read_resolved(run.recipe, Recipe))
    if own.training.steps is None or own.training.epochs is None:
        return own
    # An earlier version accepted both, and used steps.
    return own.model_copy(update={"training": own.training.model_copy(update={"epochs": None})})


def _free_name(recipe: Recipe) -> str:
    workspace, number = Workspace(Path(recipe.workspace)), 2
    while workspace.run(f"{recipe.name}-{number}").root.exists():
        number += 1
    return f"{recipe.name}-{number}"
