"""A tokenizer from the shards: words counted, candidates trained and measured, one of them chosen.

python -m jobs.tokenizer run configs/demo.yaml
python -m jobs.tokenizer report configs/demo.yaml
python -m jobs.tokenizer run configs/demo.yaml --pick bpe-3000-1500-lossless
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import (
    ClusterName,
    DryRun,
    Json,
    Overrides,
    RecipeFile,
    Verify,
    add_status,
    do_stage,
    main,
    new_app,
    print_json,
    refuse_cluster_keys,
)
from kit.relay.resolve import load
from kit.relay.submit import refuse_early, refuse_second, refuse_unfinished, run_here, say, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.run import Project
    from kit.relay.stages import Stage

app = new_app("A tokenizer from the shards: counted, trained, measured, chosen.")
Pick = Annotated[
    str | None,
    typer.Option(
        help="This candidate is the tokenizer from here on, whatever the rule says; `rule`: the rule again."
    ),
]


@app.command("run")
def run_verb(
    recipe_file: RecipeFile,
    overrides: Overrides = None,
    cluster_name: ClusterName = None,
    pick: Pick = None,
    dry_run: DryRun = False,
    verify: Verify = False,
) -> None:
    """Do it here and now."""
    _do(run_here, load(recipe_file, overrides, cluster_name), pick, dry_run, verify)


@app.command("submit")
def submit_verb(
    recipe_file: RecipeFile,
    overrides: Overrides = None,
    cluster_name: ClusterName = None,
    pick: Pick = None,
    dry_run: DryRun = False,
    verify: Verify = False,
) -> None:
    """Send what is not done of it to the cluster, and return at once."""
    _do(submit, load(recipe_file, overrides, cluster_name), pick, dry_run, verify)


add_status(app, "tokenizer")


@app.command("report")
def report_verb(
    recipe_file: RecipeFile,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """The candidates, what was measured of each, and which one is chosen."""
    from kit.tokenizer import choice

    refuse_cluster_keys(overrides)
    recipe = load(recipe_file, overrides, refuse=False).recipe
    text = choice.report(recipe)
    if as_json:
        name, reason = choice.chosen(recipe)
        names = [vocabulary.name for vocabulary in recipe.tokenizer.vocabularies()]
        found = {name: choice.figures(recipe, name) for name in names}
        print_json({"candidates": found, "chosen": name, "reason": reason})
    else:
        say(text)


def _do(
    act: Callable[[Project, Sequence[Stage]], object],
    project: Project,
    pick: str | None,
    dry_run: bool,
    verify: bool,
) -> None:
    """As jobs.command has it, with another pick where one is given."""
    from kit.relay.stages import stages_of
    from kit.tokenizer import choice

    recipe = project.recipe
    if pick is None:
        choice.picked(recipe)  # one that is no candidate any more is told before the work
    changed = pick if pick is not None and choice.differs(recipe, pick) else None
    if changed is None or dry_run:
        if changed is not None:
            say(f"tokenizer: would be made anew, for --pick {changed}")
        do_stage("tokenizer", act, project, dry_run, verify)
        return
    # First of all: an attempt that begins in between would find a tokenizer that is not its own.
    refuse_second(project.run)
    refuse_unfinished(recipe, "tokenizer")
    refuse_early(project, stages_of(recipe, "tokenizer")[0])
    with choice.picking(recipe, changed):
        do_stage("tokenizer", act, project, dry_run, verify)


if __name__ == "__main__":
    main(app)
