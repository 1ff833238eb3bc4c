"""What the command lines share: arguments and options, the verbs, errors into exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import ending
from kit.errors import ConfigError
from kit.relay.resolve import load
from kit.relay.submit import run_here, show_dry_run, submit, withdraw_broken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.run import Project
    from kit.relay.stages import Stage

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


def tell_differences(project: Project) -> list[str]:
    """Say on stderr what a recipe that is looked at has otherwise than its run; returns it."""
    from kit.run import begun

    if lines := begun.differences(project):
        what = f"{project.run.root}: was begun with another recipe ({begun.shown(lines)})"
        print(f"warning: {what}; shown is that run", file=sys.stderr, flush=True)
    return lines


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
        do_stage(name, run_here, load(recipe_file, overrides, cluster_name), dry_run, verify)

    @app.command("submit")
    def submit_verb(
        recipe_file: RecipeFile,
        overrides: Overrides = None,
        cluster_name: ClusterName = None,
        dry_run: DryRun = False,
        verify: Verify = False,
    ) -> None:
        """Send what is not done of it to the cluster, and return at once."""
        do_stage(name, submit, load(recipe_file, overrides, cluster_name), dry_run, verify)

    add_status(app, name)
    return app


def do_stage(
    name: str,
    act: Callable[[Project, Sequence[Stage]], object],
    project: Project,
    dry_run: bool,
    verify: bool,
) -> None:
    """Run or submit a stage with its passes, or say what that would do."""
    from kit.relay.stages import stages_of

    stages = stages_of(project.recipe, name)
    if dry_run:
        show_dry_run(project, stages)
        return
    if verify:
        withdraw_broken(project, stages)
    act(project, stages)


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
    from kit.relay import status

    project = load(recipe_file, overrides, cluster_name, refuse=False)
    differing = tell_differences(project)
    words = status.words_of(recipe_file, overrides, cluster_name)
    stages = status.facts(project, words, name, verify=verify)
    if as_json:
        passes = {key: value for key, value in stages.items() if key != name}
        more = {"passes": passes, "differs": differing}
        print_json({"stage": name, **stages[name], **{k: v for k, v in more.items() if v}})
        return
    for stage, found in stages.items():
        print(f"{stage}: {status.headline(found)}", *status.details(found), sep="\n")
