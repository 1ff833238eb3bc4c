"""The whole relay, as one chain of jobs.

python -m jobs.pipeline run configs/demo.yaml
python -m jobs.pipeline submit configs/gpt2-xl-ja.yaml --cluster mdx
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from jobs.command import (
    ClusterName,
    DryRun,
    Json,
    Overrides,
    RecipeFile,
    Verify,
    main,
    new_app,
    print_json,
    tell_differences,
)
from kit.relay.resolve import load
from kit.relay.stages import stages_of
from kit.relay.submit import run_here, show_dry_run, submit, to_do, warn

app = new_app("The whole relay: from raw text to a released model.")


@app.command("run")
def run_verb(
    recipe_file: RecipeFile,
    overrides: Overrides = None,
    cluster_name: ClusterName = None,
    dry_run: DryRun = False,
) -> None:
    """Run all that is not done on this machine, in the foreground, and report."""
    from kit.relay import report, status

    project = load(recipe_file, overrides, cluster_name)
    stages = stages_of(project.recipe)
    if dry_run:
        show_dry_run(project, stages)
        return
    todo = to_do(project, stages)
    seconds = run_here(project, todo) if todo else {}
    words = status.words_of(recipe_file, overrides, cluster_name)
    report.show(report.facts(project, words), seconds)


@app.command("submit")
def submit_verb(
    recipe_file: RecipeFile,
    overrides: Overrides = None,
    cluster_name: ClusterName = None,
    dry_run: DryRun = False,
) -> None:
    """Send the whole chain to the cluster, and return at once."""
    project = load(recipe_file, overrides, cluster_name)
    (show_dry_run if dry_run else submit)(project, stages_of(project.recipe))


@app.command("status")
def status_verb(
    recipe_file: RecipeFile,
    overrides: Overrides = None,
    cluster_name: ClusterName = None,
    verify: Verify = False,
    as_json: Json = False,
) -> None:
    """Where the relay stands."""
    from kit.relay import report, status

    project = load(recipe_file, overrides, cluster_name, refuse=False)
    words = status.words_of(recipe_file, overrides, cluster_name)
    facts = report.facts(project, words, verify=verify)
    facts["differs"] = tell_differences(project)
    (print_json if as_json else report.show)(facts)


@app.command("show")
def show_verb(
    recipe_file: RecipeFile, overrides: Overrides = None, cluster_name: ClusterName = None
) -> None:
    """The resolved recipe and cluster, as a run directory would hold them."""
    project = load(recipe_file, overrides, cluster_name, refuse=False)
    tell_differences(project)
    warn(project)
    sections = {"recipe": project.recipe, "cluster": project.cluster}
    print_json({name: section.model_dump(mode="json") for name, section in sections.items()})


@app.command("new")
def new_verb(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The recipe is written to NAME.yaml.")
    ],
    size: Annotated[str, typer.Option("--size", help="Parameters: 10m to 3b.")] = "10m",
    tokens: Annotated[
        str | None, typer.Option("--tokens", help="Tokens to train on; else 20 a parameter.")
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option("--text", help="A text: path, pattern, URL or name; may be given again."),
    ] = None,
    cluster_name: ClusterName = None,
) -> None:
    """Write a short recipe to start from into this folder, and say what was chosen and why."""
    from pathlib import Path

    from kit.config import load as recipes
    from kit.plan import starter

    path = Path(f"{name}.yaml")
    made = starter.draft(
        name,
        size=starter.number(size, "--size"),
        tokens=None if tokens is None else starter.number(tokens, "--tokens"),
        texts=texts or [],
        cluster=recipes.load_cluster(cluster_name, path, []),
        folder=Path(),
    )
    starter.write(path, made.text)
    print(f"{path}: written")
    wide = max(len(what) for what, _, _ in made.reasons)
    for what, how_much, why in made.reasons:
        print(f"  {what:{wide}}  {how_much}  ({why})")
    on = "" if cluster_name is None else f" --cluster {cluster_name}"
    verb = "run" if cluster_name is None else "submit"
    print(f"next: python -m jobs.pipeline {verb} {path}{on} --dry-run")
    if made.first_try:
        print(f"a first try: python -m jobs.pipeline {verb} {path}{on} {made.first_try}")


@app.command("explain")
def explain_verb(
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="A key or a section, as training.precision."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All keys, as the page docs/recipes.md.")
    ] = False,
    schema: Annotated[
        str | None,
        typer.Option("--schema", help="The JSON schema of a file: recipe, or cluster."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What a key of a recipe or cluster file is, takes, and is by default."""
    from kit.config import reference
    from kit.config import schema as schema_module

    if schema is not None:
        print(json.dumps(schema_module.schema(schema), ensure_ascii=False, indent=1))
    elif everything:
        print(reference.page(), end="")
    elif as_json:
        print_json([found.as_dict() for found in reference.keys_at(key)])
    else:
        print(reference.explain(key))


if __name__ == "__main__":
    main(app)
