"""What the command lines share: recipe, overrides, cluster; the verbs; errors into exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import ending
from jobs.operate import run_here, show_dry_run, submit, withdraw_broken
from kit.config.run import run_of
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobs.chain import Stage
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe, Training
    from kit.store.paths import Run

RecipeFile = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A recipe, as configs/demo.yaml, or a run directory."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value ...]", help="Keys of the recipe, or of cluster."),
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="A name in configs/cluster, or a YAML file; else local, or the run directory's own.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read every file, not only its size.")]


def new_app(text: str) -> typer.Typer:
    """A command line with that help."""
    return typer.Typer(
        help=text, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
    )


def main(app: typer.Typer) -> None:
    """Run a command line; a user's mistake is one line on stderr and its exit code."""
    with ending.in_order():
        app()


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
    from kit.config import amendments
    from kit.config.load import load
    from kit.corpus import segment
    from kit.run import begun

    recipe, cluster = load(recipe_file, overrides or [], cluster_name)
    name, version = segment.resolve(recipe.corpus.segmenter)
    resolved = {"segmenter": name, "segmenter_version": version}
    recipe = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update=resolved)})
    if not recipe_file.is_dir():  # a run directory has its precision
        recipe = recipe.model_copy(update={"training": _with_precision(recipe, cluster)})
    _refuse_broken_links(recipe)
    rows = amendments.recorded(run_of(recipe))
    recipe = amendments.on_recipe(rows, recipe)
    if refuse:
        begun.refuse_other(recipe)
    return recipe, amendments.on_cluster(rows, cluster)


def tell_differences(recipe: Recipe) -> list[str]:
    """Say on stderr what a recipe that is looked at has otherwise than its run; returns it."""
    from kit.run import begun

    if lines := begun.differences(recipe):
        what = f"{run_of(recipe).root}: was begun with another recipe ({begun.shown(lines)})"
        print(f"warning: {what}; shown is that run", file=sys.stderr, flush=True)
    return lines


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


def refuse_cluster_keys(overrides: Sequence[str] | None) -> None:
    """Raises ConfigError for an override of the cluster, where a command has no use of one."""
    for override in overrides or ():
        if override.startswith("cluster."):
            raise ConfigError(f"override '{override}': this command uses no cluster; leave it out")


def print_json(value: Any) -> None:
    """One object, for programs."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def stage_app(name: str, text: str) -> typer.Typer:
    """The command line of one stage, and of the passes that belong to it: run, submit, status."""
    app = new_app(text)

    @app.command("run")
    def run_verb(
        recipe_file: RecipeFile,
        overrides: Overrides = None,
        cluster_name: ClusterName = None,
        dry_run: DryRun = False,
        verify: Verify = False,
    ) -> None:
        """Do it here and now; training runs on the ranks of a local cluster."""
        do_stage(name, run_here, *load(recipe_file, overrides, cluster_name), dry_run, verify)

    @app.command("submit")
    def submit_verb(
        recipe_file: RecipeFile,
        overrides: Overrides = None,
        cluster_name: ClusterName = None,
        dry_run: DryRun = False,
        verify: Verify = False,
    ) -> None:
        """Send what is not done of it to the cluster, and return at once."""
        do_stage(name, submit, *load(recipe_file, overrides, cluster_name), dry_run, verify)

    add_status(app, name)
    return app


def do_stage(
    name: str,
    act: Callable[[Recipe, Cluster, Sequence[Stage]], object],
    recipe: Recipe,
    cluster: Cluster,
    dry_run: bool,
    verify: bool,
) -> None:
    """Run or submit a stage with its passes, or say what that would do."""
    from jobs.chain import stages_of

    stages = stages_of(recipe, name)
    if dry_run:
        show_dry_run(recipe, cluster, stages)
        return
    if verify:
        withdraw_broken(recipe, stages)
    act(recipe, cluster, stages)


def add_status(app: typer.Typer, name: str) -> None:
    """The verb `status` of a stage with its passes."""

    @app.command("status")
    def status_verb(
        recipe_file: RecipeFile,
        overrides: Overrides = None,
        cluster_name: ClusterName = None,
        verify: Verify = False,
        as_json: Json = False,
    ) -> None:
        """What is done, missing, stale or broken; what became of its job, and what to type next."""
        show_status(name, recipe_file, overrides, cluster_name, verify=verify, as_json=as_json)


def show_status(
    name: str,
    recipe_file: Path,
    overrides: list[str] | None,
    cluster_name: str | None,
    *,
    verify: bool,
    as_json: bool,
) -> None:
    """Print where a stage stands with its passes."""
    from jobs import standing

    recipe, _ = load(recipe_file, overrides, cluster_name, refuse=False)
    differing = tell_differences(recipe)
    words = standing.words_of(recipe_file, overrides, cluster_name)
    stages = standing.facts(run_of(recipe), recipe, words, name, verify=verify)
    if as_json:
        passes = {key: value for key, value in stages.items() if key != name}
        more = {"passes": passes, "differs": differing}
        print_json({"stage": name, **stages[name], **{k: v for k, v in more.items() if v}})
        return
    for stage, found in stages.items():
        print(f"{stage}: {standing.headline(found)}", *standing.details(found), sep="\n")
