"""The recipe and the cluster of a command, resolved on this machine, as amended in mid-run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.run import run_of
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
) -> tuple[Recipe, Cluster]:
    """The recipe and cluster of a command line, resolved on this machine, as amended in mid-run.

    Raises RunError where its run was begun with another recipe; `refuse` is off for a command that
    only looks, or is about the workspace.
    """
    from kit.config import amendments, presets
    from kit.config.load import load
    from kit.corpus import segment
    from kit.run import begun

    recipe, cluster = load(recipe_file, overrides or [], cluster_name)
    name, version = segment.resolve(recipe.corpus.segmenter)
    resolved = {"segmenter": name, "segmenter_version": version}
    recipe = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update=resolved)})
    if not presets.recipe(recipe_file).is_dir():  # a run directory has its precision
        recipe = recipe.model_copy(update={"training": _with_precision(recipe, cluster)})
    _refuse_broken_links(recipe)
    rows = amendments.recorded(run_of(recipe))
    recipe = amendments.on_recipe(rows, recipe)
    if refuse:
        begun.refuse_other(recipe)
    return recipe, amendments.on_cluster(rows, cluster)


def read_run(directory: Path) -> tuple[Run, Recipe, Cluster]:
    """A run that is there, with its recipe and cluster as they stand. Raises ConfigError."""
    from kit.config import amendments
    from kit.config.load import load_cluster, load_recipe

    if not directory.is_dir():
        raise ConfigError(f"{directory}: there is no such run directory; see WORKSPACE/runs")
    recipe = load_recipe(directory, [])
    cluster = load_cluster(None, directory, [])
    _refuse_broken_links(recipe)
    rows = amendments.recorded(run := run_of(recipe))
    return run, amendments.on_recipe(rows, recipe), amendments.on_cluster(rows, cluster)


def _refuse_broken_links(recipe: Recipe) -> None:
    """Raises ConfigError for a link of the workspace, or of the run, that leads nowhere."""
    from kit.config import moved
    from kit.store.paths import Workspace

    workspace, run = Workspace(Path(recipe.workspace)), run_of(recipe)
    raw = [workspace.raw(name) for name in recipe.corpus.sources]
    inside = run.root.iterdir() if run.root.is_dir() else ()
    moved.refuse_broken_links([*workspace.folders, *raw, run.root, *inside])


def _with_precision(recipe: Recipe, cluster: Cluster) -> Training:
    """The recipe's training in a precision of its own: a run that has begun keeps the one it has."""
    from kit.config.recipe import Recipe
    from kit.config.section import read_resolved
    from kit.training import precision

    training, run = recipe.training, run_of(recipe)
    asked, reason = training.precision, None
    if run.begun and run.recipe.is_file():
        own = read_resolved(run.recipe, Recipe).training
        if asked in ("auto", own.precision):
            asked, reason = own.precision, own.precision_reason
    if asked == "auto":
        asked, reason = precision.resolve(cluster)
    return training.model_copy(update={"precision": asked, "precision_reason": reason})
