"""Load the recipe and the cluster of a command: resolved on this machine, with the run's amendments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.run import Project, run_of
from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe, Training
    from kit.store.paths import Run


def load(
    recipe_file: Path,
    overrides: list[str] | None = None,
    cluster_name: str | None = None,
    *,
    refuse: bool = True,
    keep_micro_batch: bool = True,
) -> Project:
    """Load run, recipe and cluster of a command line, resolved on this machine, with amendments applied.

    A run that has begun keeps its micro-batch where the recipe has `auto`, unless `keep_micro_batch` is
    off, as for a rehearsal, which searches for one.

    Raises RunError if the run was started with a different recipe, unless `refuse` is off, as for a
    command that only reads or that concerns the workspace.
    """
    from kit.config import presets
    from kit.config.load import load
    from kit.corpus import segment
    from kit.run import begun

    recipe, cluster = load(recipe_file, overrides or [], cluster_name)
    name, version = segment.resolve(recipe.corpus.segmenter)
    resolved = {"segmenter": name, "segmenter_version": version}
    recipe = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update=resolved)})
    run = run_of(recipe)
    if not presets.recipe(recipe_file).is_dir():  # a run directory records what was decided
        recipe = recipe.model_copy(update={"training": _with_precision(run, recipe, cluster)})
        recipe = _with_micro_batch(Project(run, recipe, cluster), keep=keep_micro_batch)
    project = _as_amended(run, recipe, cluster)
    if refuse:
        begun.refuse_other(project)
    return project


def kept_micro_batch(
    recipe_file: Path, overrides: list[str] | None, project: Project
) -> str | None:
    """Where the micro-batch comes from if a recipe leaves it to the kit, and its run has begun; else None.

    `project` is what `load` gave for the same recipe and overrides.
    """
    from kit.config.load import load_recipe

    own = _of_run(project.run)
    given = load_recipe(recipe_file, overrides or []).training
    if own is None or given.micro_batch != "auto" or not _fits(own, project.recipe):
        return None
    training = project.recipe.training
    why = f": {training.micro_batch_reason}" if training.micro_batch_reason else ""
    return f"training.micro_batch={training.micro_batch}: that of the run, which has begun{why}"


def read_run(directory: Path) -> Project:
    """Load an existing run with its recipe and cluster, amendments applied. Raises ConfigError."""
    from kit.config.load import load_cluster, load_recipe

    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such run directory; see WORKSPACE/runs")
    recipe = load_recipe(directory, [])
    cluster = load_cluster(None, directory, [])
    return _as_amended(run_of(recipe), recipe, cluster)


def _as_amended(run: Run, recipe: Recipe, cluster: Cluster) -> Project:
    """The project with its amendments applied."""
    from kit.config import amendments

    _refuse_broken_links(run, recipe)
    rows = amendments.read(run)
    return Project(
        run, amendments.apply_to_recipe(rows, recipe), amendments.apply_to_cluster(rows, cluster)
    )


def _refuse_broken_links(run: Run, recipe: Recipe) -> None:
    """Raise ConfigError if a symlink of the workspace or the run is broken."""
    from kit.config import relocation
    from kit.store.paths import Workspace

    workspace = Workspace(Path(recipe.workspace))
    raw = [workspace.raw(name) for name in recipe.corpus.sources]
    inside = run.root.iterdir() if run.root.is_dir() else ()
    relocation.refuse_broken_links([*workspace.folders, *raw, run.root, *inside])


def _of_run(run: Run) -> Training | None:
    """The section training of a run that has started; None if it has not."""
    from kit.config.recipe import Recipe
    from kit.config.section import read_resolved

    started = run.begun and run.recipe.is_file()
    return read_resolved(run.recipe, Recipe).training if started else None


def _with_micro_batch(project: Project, *, keep: bool) -> Recipe:
    """The recipe with its micro-batch resolved; with `keep`, a run that has started keeps its own."""
    from kit.plan.micro_batch import with_micro_batch
    from kit.run.micro_batch import resolved

    chosen, own = project.recipe.training.micro_batch, _of_run(project.run) if keep else None
    kept = own is not None and chosen in ("auto", own.micro_batch)
    if own is not None and kept and _fits(own, project.recipe):
        return with_micro_batch(project.recipe, own.micro_batch_size, own.micro_batch_reason)
    return resolved(project)


def _fits(own: Training, recipe: Recipe) -> bool:
    """Whether a run's micro-batch divides the global batch: another one is refused by its name later."""
    return recipe.training.global_batch % own.micro_batch_size == 0


def _with_precision(run: Run, recipe: Recipe, cluster: Cluster) -> Training:
    """The section training with its precision resolved; a run that has started keeps its own."""
    from kit.training import precision

    training, own = recipe.training, _of_run(run)
    chosen, reason = training.precision, None
    if own is not None and chosen in ("auto", own.precision):
        chosen, reason = own.precision, own.precision_reason
    if chosen == "auto":
        chosen, reason = precision.resolve(cluster)
    return training.model_copy(update={"precision": chosen, "precision_reason": reason})
