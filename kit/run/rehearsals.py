"""The rehearsals of a run: where they are, and what they have shown of its micro-batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.store import records
from kit.store.files import read_json
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.run import Project
    from kit.store.paths import Run

_MICRO_BATCH = "micro_batch"
# Keys of `training` that change the memory or the time of a step.
_DECISIVE = (
    "global_batch", _MICRO_BATCH, "precision", "optimizer", "gradient_dtype", "loss_kernel", "loss_chunk",
    "compile", "deepspeed",
)  # fmt: skip


def last(project: Project) -> Run | None:
    """The last rehearsal on this cluster, one with real tokens first; None if there is none."""
    return next(_on_the_cluster(project), None)


def differences(project: Project, rehearsal: Run) -> list[str]:
    """The keys by which the steps of a rehearsal differ from those of the run."""
    own, other = project.recipe, read_resolved(rehearsal.recipe, Recipe)
    keys = [
        f"training.{key}"
        for key in _DECISIVE
        if getattr(own.training, key) != getattr(other.training, key)
    ]
    return [*(["model"] if own.model != other.model else []), *keys]


def micro_batch(project: Project) -> tuple[int, str] | None:
    """The largest micro-batch that a rehearsal on this cluster has found to fit, and how; or None."""
    for rehearsal in _on_the_cluster(project):
        differing = {*differences(project, rehearsal)} - {f"training.{_MICRO_BATCH}"}
        training = read_resolved(rehearsal.recipe, Recipe).training
        searched = training.micro_batch_reason is not None
        if searched and not differing and _same_ranks(project, rehearsal) and _finished(rehearsal):
            reason = f"rehearsed on {project.cluster.name}: {training.micro_batch_reason}"
            return training.micro_batch_size, reason
    return None


def _on_the_cluster(project: Project) -> Iterator[Run]:
    name = f"{project.recipe.name}{Workspace.REHEARSAL}"
    workspace = Workspace(Path(project.recipe.workspace))
    for run in (workspace.run(name), workspace.synthetic(name).run(name)):
        if run.cluster.is_file() and read_json(run.cluster).get("name") == project.cluster.name:
            yield run


def _same_ranks(project: Project, rehearsal: Run) -> bool:
    """Whether it had as many ranks, on the same GPUs."""
    own, other = project.cluster.training, read_resolved(rehearsal.cluster, Cluster).training
    return (own.ranks, own.accelerator) == (other.ranks, other.accelerator)


def _finished(rehearsal: Run) -> bool:
    ends = (records.end(attempt) for attempt in rehearsal.claimed_attempts())
    return any(end is not None and end["outcome"] == "done" for end in ends)
