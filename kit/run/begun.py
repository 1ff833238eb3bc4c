"""A run that has begun keeps its recipe: what another one differs in, and what to type instead.

Another recipe would train another model, and every file of the run is the old one's: a command that
acted on it, or reported it as what was asked for, would give the old answer to a new question.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config import amendments
from kit.config.recipe import Recipe
from kit.config.section import differing_keys, read_resolved
from kit.errors import RunError
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Collection

    from kit.config.run import Project

_SHOWN = 3  # differences that fit into one line
_SHARED = ("corpus.", "tokenizer.", "tokens.")  # made once for all runs of a workspace


def differences(project: Project) -> list[str]:
    """What a recipe has otherwise than its run that has begun, as `key: the run's -> the recipe's`.

    Amendments count as the run's own; none where it has not begun.
    """
    own = _own(project)
    return [] if own is None else differing_keys(own, project.recipe)


def refuse_other(project: Project, spare: Collection[str] = ()) -> None:
    """Raises RunError where a recipe's run was begun with another one, but for the keys in `spare`."""
    lines = [line for line in differences(project) if line.split(": ", 1)[0] not in spare]
    if not lines:
        return
    raise RunError(
        f"{project.run.root}: was begun with another recipe ({shown(lines)}); {_way(project)}"
    )


def shown(lines: list[str]) -> str:
    """The first of some differences, and how many more there are."""
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def _way(project: Project) -> str:
    """What to type: an amendment where all may be amended, or a name that is free."""
    own, recipe = _own(project), project.recipe
    assert own is not None
    differing = differing_keys(own, recipe)
    changes = {
        key: values
        for key, values in amendments.differences(own, recipe).items()
        if any(line.startswith((f"{key}: ", f"{key}.")) for line in differing)
    }
    anew = f"name={_free_name(recipe)}"
    if all(amendments.is_of(key, amendments.MAY_CHANGE) for key in changes):
        given = " ".join(shlex.quote(f"{key}={_text(new)}") for key, (_, new) in changes.items())
        return (
            f"to change this run: python -m jobs.train amend {project.run.root} {given}; "
            f"for a run of its own add {anew}"
        )
    if any(amendments.is_of(key, _SHARED) for key in changes):
        anew += " and another workspace="
    return f"for a run of its own add {anew}; what jobs.train amend and fork may change, they say"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _own(project: Project) -> Recipe | None:
    """The recipe of the run, as amended; None where it has not begun."""
    run = project.run
    if not (run.begun and run.recipe.is_file()):
        return None
    own = amendments.on_recipe(amendments.recorded(run), read_resolved(run.recipe, Recipe))
    if own.training.steps is None or own.training.epochs is None:
        return own
    # As an earlier version let both be given, of which steps counted.
    return own.model_copy(update={"training": own.training.model_copy(update={"epochs": None})})


def _free_name(recipe: Recipe) -> str:
    workspace, number = Workspace(Path(recipe.workspace)), 2
    while workspace.run(f"{recipe.name}-{number}").root.exists():
        number += 1
    return f"{recipe.name}-{number}"
