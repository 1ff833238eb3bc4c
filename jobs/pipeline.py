"""The whole relay, as one chain of jobs.

python -m jobs.pipeline run demo
python -m jobs.pipeline submit gpt2-xl-ja --cluster mdx
"""

from __future__ import annotations

from jobs.command import (
    DryRun,
    Given,
    Showing,
    main,
    new_app,
    print_json,
    tell_differences,
    verb,
)
from kit.config.run import run_of
from kit.relay.stages import stages_of
from kit.relay.submit import run_here, show_dry_run, submit, to_do, warn

app = new_app("The whole relay: from raw text to a released model.")


@verb(app, "run", "demo training.steps=20")
def run_verb(given: Given, dry_run: DryRun = False) -> None:
    """Run all that is not done on this machine, in the foreground, and report."""
    from kit.relay import report

    recipe, cluster = given.load()
    if dry_run:
        show_dry_run(recipe, cluster, stages_of(recipe))
        return
    todo = to_do(recipe, stages_of(recipe))
    seconds = run_here(recipe, cluster, todo) if todo else {}
    report.show(report.facts(run_of(recipe), recipe, given.words), seconds)


@verb(app, "submit", "gpt2-xl-ja --cluster mdx")
def submit_verb(given: Given, dry_run: DryRun = False) -> None:
    """Send the whole chain to the cluster, and return at once."""
    recipe, cluster = given.load()
    (show_dry_run if dry_run else submit)(recipe, cluster, stages_of(recipe))


@verb(app, "status", "gpt2-xl-ja --json")
def status_verb(given: Given, showing: Showing) -> None:
    """Show where the relay stands: its stages, the curve, the scores, and what to type next."""
    from kit.relay import report

    recipe, _ = given.load(refuse=False)
    facts = report.facts(run_of(recipe), recipe, given.words, verify=showing.verify)
    facts["differs"] = tell_differences(recipe)
    (print_json if showing.as_json else report.show)(facts)


@verb(app, "show", "demo --cluster mdx training.precision=bf16")
def show_verb(given: Given) -> None:
    """Print the resolved recipe and cluster, as a run directory would hold them."""
    recipe, cluster = given.load(refuse=False)
    tell_differences(recipe)
    warn(recipe, cluster)
    print_json(
        {"recipe": recipe.model_dump(mode="json"), "cluster": cluster.model_dump(mode="json")}
    )


if __name__ == "__main__":
    main(app)
