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
from kit.config.run import run_of
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

    recipe, cluster = load(recipe_file, overrides, cluster_name)
    if dry_run:
        show_dry_run(recipe, cluster, stages_of(recipe))
        return
    todo = to_do(recipe, stages_of(recipe))
    seconds = run_here(recipe, cluster, todo) if todo else {}
    words = status.words_of(recipe_file, overrides, cluster_name)
    report.show(report.facts(run_of(recipe), recipe, words), seconds)


@app.command("submit")
def submit_verb(
    recipe_file: RecipeFile,
    overrides: Overrides = None,
    cluster_name: ClusterName = None,
    dry_run: DryRun = False,
) -> None:
    """Send the whole chain to the cluster, and return at once."""
    recipe, cluster = load(recipe_file, overrides, cluster_name)
    (show_dry_run if dry_run else submit)(recipe, cluster, stages_of(recipe))


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

    recipe, _ = load(recipe_file, overrides, cluster_name, refuse=False)
    words = status.words_of(recipe_file, overrides, cluster_name)
    facts = report.facts(run_of(recipe), recipe, words, verify=verify)
    facts["differs"] = tell_differences(recipe)
    (print_json if as_json else report.show)(facts)


@app.command("show")
def show_verb(
    recipe_file: RecipeFile, overrides: Overrides = None, cluster_name: ClusterName = None
) -> None:
    """The resolved recipe and cluster, as a run directory would hold them."""
    recipe, cluster = load(recipe_file, overrides, cluster_name, refuse=False)
    tell_differences(recipe)
    warn(recipe, cluster)
    print_json(
        {"recipe": recipe.model_dump(mode="json"), "cluster": cluster.model_dump(mode="json")}
    )


if __name__ == "__main__":
    main(app)
