"""The whole relay, as one chain of jobs.

python -m jobs.pipeline run configs/demo.yaml
python -m jobs.pipeline submit configs/gpt2-xl-ja.yaml --cluster mdx
"""

from __future__ import annotations

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


if __name__ == "__main__":
    main(app)
