"""The plan of a run, with what its workspace already knows: a rehearsal, tokens, files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster.preflight import disk, host_memory, quota
from kit.data import index, shards, tokens
from kit.errors import ConfigError, EkidenError, JobFailed
from kit.output import program
from kit.output.charts import picture
from kit.output.quantities import size
from kit.plan import fit, report
from kit.plan.disk import Room
from kit.plan.known import Budget, Known
from kit.plan.simulation import outlook
from kit.plan.simulation.given import Chances, given
from kit.plan.simulation.picture import charts
from kit.relay import own_record, rehearsal, trainable
from kit.run import rehearsals
from kit.store.files import atomic
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.config.run import Project


@dataclass(frozen=True)
class Simulation:
    """The request for a simulation."""

    chances: Chances = field(default_factory=Chances)
    runs: int = 10_000
    seed: int = 0


def facts(
    project: Project,
    mfu: float | None = None,
    simulation: Simulation | None = None,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """The plan as plain values; `mfu` overrides a rehearsed rate.

    Raises ConfigError if the recipe cannot be trained on the cluster, if `mfu` would have no effect, or if
    a figure that a simulation needs is unknown.
    """
    if mfu is not None and project.cluster.training.accelerator is None:
        raise ConfigError(
            f"--mfu {mfu:g}: a share of an unknown peak; name the GPU by cluster.training.accelerator"
        )
    recipe = project.recipe
    trainable.check(recipe, project.cluster, begun=project.run.begun)
    rehearsed, reason = _rehearsed(project)
    known = Known(
        rehearsed,
        reason,
        training_tokens(recipe),
        budget,
        _on_disk(project),
        [*_room(Path(recipe.workspace))],
        _node_memory(project.cluster),
    )
    found = report.facts(recipe, project.cluster, known, mfu)
    found["misfits"] = [one._asdict() for one in fit.misfits(recipe, project.cluster)]
    if simulation is not None:
        own = own_record.read(project)
        conditions = given(recipe, project.cluster, found, simulation.chances, own, rehearsed)
        found["simulation"] = outlook.facts(conditions, simulation.runs, simulation.seed)
    return found


def training_tokens(recipe: Recipe) -> int | None:
    """The number of training tokens; None before all of them are made."""
    try:
        files = index.load(recipe)
        item = tokens.dtype_for(tokens.tokenizer_info(recipe).size).itemsize
    except EkidenError:
        return None
    return sum(files.sizes[shards.TRAIN]) // item


def draw(plan: dict[str, Any], path: Path) -> None:
    """Draw the simulation of `facts` as a PNG or an SVG file, by the suffix of its name.

    Raises ConfigError if the file cannot be written, or if no run arrives.
    """
    drawn = charts(plan["recipe"], plan["simulation"])
    form: Any = path.suffix.removeprefix(".")
    try:
        with atomic(path) as out:
            picture.save(*drawn, out=out, form=form)
    except OSError as error:
        raise ConfigError(f"--plot {path}: {error.strerror}; name another file") from None


def _rehearsed(project: Project) -> tuple[dict[str, Any] | None, str]:
    """The measurements of the last rehearsal on this cluster, or the reason why there are none."""
    run = rehearsals.last(project)
    if run is None:
        return (
            None,
            f"not rehearsed on {project.cluster.name}: {program.command('train', 'rehearse')}",
        )
    if other := rehearsals.differences(project, run):
        return None, f"the last rehearsal had another {', '.join(other)}"
    try:
        measured = rehearsal.measure(run, project.recipe, project.cluster)
    except (JobFailed, StopIteration):
        return None, "the last rehearsal has not finished"
    if measured["ranks"] != project.cluster.training.ranks:
        return None, f"the last rehearsal had {measured['ranks']} ranks"
    return measured, "rehearsed"


def _on_disk(project: Project) -> dict[str, int]:
    """Bytes of the stages, and of the checkpoints and release of the run, that have files."""
    workspace = Workspace(Path(project.recipe.workspace))
    folders = {name: workspace.root / name for name in ("raw", "shards", "tokens")}
    folders |= {"checkpoints": project.run.checkpoints, "release": project.run.export}
    found = {name: _bytes(folder) for name, folder in folders.items()}
    return {name: number for name, number in found.items() if number}


def _room(workspace: Path) -> Iterator[Room]:
    """The free space on the file system of the workspace, and the rest of your quotas there."""
    folder = disk.existing(workspace)
    yield Room("free", shutil.disk_usage(folder).free, f"on the file system of {folder}")
    for usage in quota.of_folder(folder):
        if usage.limit:
            left = max(0, usage.limit - usage.kilobytes) * 1024
            source = f"left of {size(usage.limit * 1024)} of {usage.of}"
            yield Room(f"quota of {usage.of}", left, source)


def _node_memory(cluster: Cluster) -> tuple[float, str] | None:
    limit = host_memory.lowest(cluster)
    return limit and (limit.bytes, limit.source)


def _bytes(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
