"""The plan of a run, with what its workspace already knows: a rehearsal, tokens, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import index, shards, tokens
from kit.errors import ConfigError, EkidenError, JobFailed
from kit.plan import report
from kit.plan.report import Known
from kit.relay import rehearsal
from kit.run import rehearsals
from kit.store.paths import Workspace
from kit.training import zero

if TYPE_CHECKING:
    from kit.config.run import Project

# Keys of `training` that change the memory or the time of a step.
_DECISIVE = (
    "global_batch",
    "micro_batch",
    "precision",
    "gradient_dtype",
    "loss_chunk",
    "compile",
    "deepspeed",
)


def facts(project: Project, mfu: float | None = None) -> dict[str, Any]:
    """The plan as plain values; `mfu` overrides a rehearsed rate.

    Raises ConfigError if the DeepSpeed file does not fit the recipe, or if `mfu` would have no effect.
    """
    if mfu is not None and project.cluster.training.accelerator is None:
        raise ConfigError(
            f"--mfu {mfu:g}: a share of an unknown peak; name the GPU by cluster.training.accelerator"
        )
    recipe = project.recipe
    zero.check(recipe.training)
    rehearsed, reason = _rehearsed(project)
    known = Known(rehearsed, reason, _training_tokens(recipe), _on_disk(recipe))
    return report.facts(recipe, project.cluster, known, mfu)


def _rehearsed(project: Project) -> tuple[dict[str, Any] | None, str]:
    """The measurements of the last rehearsal on this cluster, or the reason why there are none."""
    run = rehearsals.last(project)
    if run is None:
        return None, f"not rehearsed on {project.cluster.name}: jobs.train rehearse"
    if other := _differences(project, read_resolved(run.recipe, Recipe)):
        return None, f"the last rehearsal had another {', '.join(other)}"
    try:
        measured = rehearsal.measure(run, project.recipe, project.cluster)
    except (JobFailed, StopIteration):
        return None, "the last rehearsal has not finished"
    if measured["ranks"] != project.cluster.training.ranks:
        return None, f"the last rehearsal had {measured['ranks']} ranks"
    return measured, "rehearsed"


def _differences(project: Project, other: Recipe) -> list[str]:
    own = project.recipe
    keys = [
        f"training.{key}"
        for key in _DECISIVE
        if getattr(own.training, key) != getattr(other.training, key)
    ]
    return [*(["model"] if own.model != other.model else []), *keys]


def _training_tokens(recipe: Recipe) -> int | None:
    """The number of training tokens; None before all of them are made."""
    try:
        files = index.load(recipe)
        item = tokens.dtype_for(tokens.tokenizer_info(recipe).size).itemsize
    except EkidenError:
        return None
    return sum(files.sizes[shards.TRAIN]) // item


def _on_disk(recipe: Recipe) -> dict[str, int]:
    """Bytes of the stages that have files."""
    workspace = Workspace(Path(recipe.workspace))
    found = {name: _bytes(workspace.root / name) for name in ("raw", "shards", "tokens")}
    return {name: number for name, number in found.items() if number}


def _bytes(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
