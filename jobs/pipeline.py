"""The whole relay as one chain of jobs.

python -m jobs.pipeline run demo
python -m jobs.pipeline submit gpt2-xl-ja --cluster mdx
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs import submitted
from jobs.command import (
    Arguments,
    ClusterName,
    Json,
    OptionalRecipe,
    Overrides,
    main,
    new_app,
    print_json,
    tell_differences,
    verb,
)
from jobs.stage import Showing, Trying  # noqa: TC001  a verb is made by its annotations
from jobs.submitted import Reading  # noqa: TC001
from kit.errors import FAILED
from kit.output import program

if TYPE_CHECKING:
    from kit.config.run import Project
    from kit.relay.stages import Stage

app = new_app("The whole relay: from raw text to a released model.")


@dataclass(frozen=True)
class Part:
    """Options of a part of the chain."""

    first: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STAGE", help="Begin with this stage, whatever those before it are."
        ),
    ] = None
    last: Annotated[
        str | None, typer.Option("--until", metavar="STAGE", help="End with this stage.")
    ] = None

    def of(self, project: Project) -> list[Stage]:
        """The stages, with a warning for each one before them that is not as it should be."""
        from kit.relay import span

        stages = span.of(project.recipe, self.first, self.last)
        for line in span.passed_over(project, self.first):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        return stages


@verb(app, "run", "demo training.steps=20")
def run_verb(arguments: Arguments, trying: Trying, part: Part) -> None:
    """Run all unfinished stages on this machine, in the foreground, and print a report."""
    from kit.relay import dry_run, report
    from kit.relay.chain import to_do
    from kit.relay.submit import run_here

    project = arguments.load()
    stages = part.of(project)
    if trying.dry_run:
        trying.show(dry_run.planned(project, stages, submits=False, ready=part.first is not None))
        return
    unfinished = to_do(project, stages)
    seconds = run_here(project, unfinished) if unfinished else {}
    report.show(report.facts(project, arguments.words), seconds)


@verb(app, "submit", "gpt2-xl-ja --cluster mdx")
def submit_verb(arguments: Arguments, trying: Trying, part: Part) -> None:
    """Submit the whole chain to the cluster, and return immediately.

    You may do so at any time: stages that are queued, running or done are not submitted again. With
    --dry-run, print each sbatch script as it would be sent, in order, and write nothing.
    """
    from kit.relay import dry_run
    from kit.relay.submit import submit

    project = arguments.load()
    stages = part.of(project)
    if not trying.dry_run:
        submit(project, stages)
        return
    trying.show(dry_run.planned(project, stages, submits=True, ready=part.first is not None))


@verb(app, "prepare", "gpt2-xl-ja --cluster mdx > chain.sh")
def prepare_verb(arguments: Arguments, as_json: Json = False) -> None:
    """Lay out the run directory, submit nothing, and print the lines that submit the scripts of sbatch/.

    With --json, print the run directory and the commands.
    """
    from kit.relay import prepare

    project = arguments.load()
    jobs = prepare.prepare(project)
    if as_json:
        print_json({"run": str(project.run.root), "jobs": [job.facts() for job in jobs]})
        return
    print(*prepare.lines(project.run, jobs), sep="\n")


@verb(app, "systemd", "work/demo/runs/demo > ekiden-demo.service")
def systemd_verb(arguments: Arguments) -> None:
    """Print a unit of systemd that continues a run of this machine after a reboot."""
    from kit.cluster import systemd

    project = arguments.load()
    print(systemd.unit(project.run, project.cluster), end="")


@verb(app, "status", "gpt2-xl-ja --json")
def status_verb(arguments: Arguments, showing: Showing) -> None:
    """Show the progress of all stages, the loss, the scores, and the command to type next."""
    from kit.relay import report
    from kit.run import begun

    project = arguments.load(refuse=False)
    differing = tell_differences(project)
    words = arguments.words_for(project)
    facts = report.facts(begun.own(project), words, verify=showing.verify)
    facts["differs"] = differing
    (print_json if showing.as_json else report.show)(facts)


@verb(app, "logs", "demo -f")
def logs_verb(
    arguments: Arguments,
    reading: Reading,
    every: Annotated[
        bool, typer.Option("--all", help="Print the logs of all stages, in order.")
    ] = False,
) -> None:
    """Print the logs of the running stage, else of the one that ended badly, else of all.

    Every attempt in order, and above the lines of each file its path. --follow goes on to the last stage.
    """
    submitted.show_logs_of_chain(arguments, reading, every=every)


@verb(app, "cancel", "demo", submitted.CANCEL.format(what="all jobs of the run"))
def cancel_verb(arguments: Arguments, as_json: Json = False) -> None:
    """See its help."""
    project = arguments.load(refuse=False)
    words = arguments.words_for(project)
    submitted.cancel_of(project, None, words, "pipeline", as_json=as_json)


@verb(app, "check", "gpt2-xl-ja --cluster mdx --on-cluster")
def check_verb(
    arguments: Arguments,
    on_cluster: Annotated[
        bool,
        typer.Option(
            "--on-cluster",
            help="Also check the nodes, in a short job with the training's resources.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a site for a recipe: limits, accounts, file system, clocks, packages, network, GPUs.

    Each check is ok, a warning or bad, with a remedy. Nothing is submitted, except by --on-cluster, which
    waits for its job. Exit code 1 if a check is bad.
    """
    from kit.relay import check

    facts = check.facts(arguments.load(refuse=False), on_cluster=on_cluster)
    if as_json:
        print_json(facts)
    else:
        print(*check.lines(facts), sep="\n")
    if facts["verdict"] == "bad":
        raise typer.Exit(FAILED)


@verb(app, "show", "demo --cluster mdx training.precision=bf16")
def show_verb(arguments: Arguments) -> None:
    """Print the resolved recipe and cluster, as JSON, the way a run directory stores them.

    Only the addresses in `alerts` are masked.
    """
    from kit.relay.submit import warn

    project = arguments.load(refuse=False)
    tell_differences(project, shown="the one given")
    warn(project)
    recipe, cluster = (
        project.recipe.model_dump(mode="json"),
        project.cluster.model_dump(mode="json"),
    )
    print_json({"recipe": recipe | {"alerts": project.recipe.alerts.shown()}, "cluster": cluster})


@verb(app, "new", "mine --size 124m --tokens 3b --cluster mdx")
def new_verb(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The recipe is written to NAME.yaml.")
    ],
    size: Annotated[str, typer.Option("--size", help="Parameters: 10m to 3b.")] = "10m",
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", help="Tokens to train on. Default: 20 per parameter."),
    ] = None,
    architecture: Annotated[
        Literal["gpt2", "llama"], typer.Option("--architecture", help="The kind of model.")
    ] = "gpt2",
    optimizer: Annotated[
        Literal["adamw", "muon"],
        typer.Option("--optimizer", help="muon is for the matrices of layers only."),
    ] = "adamw",
    decay: Annotated[
        Literal["cosine", "wsd"],
        typer.Option("--decay", help="wsd holds the peak and decays over the last tenth."),
    ] = "cosine",
    texts: Annotated[
        list[str] | None,
        typer.Option("--text", help="A text: path, pattern, URL or name; repeatable."),
    ] = None,
    cluster_name: ClusterName = None,
) -> None:
    """Write a short recipe to start from into this folder, and explain the values chosen."""
    from pathlib import Path

    from kit.config import load as recipes
    from kit.plan import starter
    from kit.plan.size import Request

    path = Path(f"{name}.yaml")
    request = Request(
        starter.number(size, "--size"),
        None if tokens is None else starter.number(tokens, "--tokens"),
        architecture,
        optimizer,
        decay,
    )
    draft = starter.draft(
        name,
        request,
        texts=texts or [],
        cluster=recipes.load_cluster(cluster_name, path, []),
        folder=Path(),
    )
    starter.write(path, draft.text)
    print(f"{path}: written")
    width = max(len(setting) for setting, _, _ in draft.reasons)
    for setting, value, reason in draft.reasons:
        print(f"  {setting:{width}}  {value}  ({reason})")
    option = [] if cluster_name is None else ["--cluster", cluster_name]
    verb = "run" if cluster_name is None else "submit"
    command = program.command("pipeline", verb, path, *option)
    print(f"next: {command} --dry-run")
    if draft.first_try:
        print(f"a first try: {command} {draft.first_try}")


@verb(app, "explain", "training.precision")
def explain_verb(
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="A key or a section, for example training.precision."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Explain all keys: the text of docs/recipes.md.")
    ] = False,
    schema: Annotated[
        str | None,
        typer.Option("--schema", help="Print the JSON schema of a file: recipe or cluster."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain a key of a recipe or cluster file: its meaning, allowed values and default."""
    from kit.config import reference
    from kit.config import schema as schema_module

    if schema is not None:
        print(json.dumps(schema_module.schema(schema), ensure_ascii=False, indent=1))
    elif everything:
        print(reference.page(), end="")
    elif as_json:
        print_json([entry.as_dict() for entry in reference.keys_at(key)])

    else:
        print(reference.explain(key))


@verb(app, "doctor", "demo")
def doctor_verb(
    recipe_file: OptionalRecipe = None,
    overrides: Overrides = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Print what the report of an issue needs: versions, machine, Slurm, disk, and how a run failed.

    Passwords, tokens, user names and home directories are masked; read it before you publish it.
    """
    from kit.relay import doctor, resolve

    if recipe_file is None:
        found = doctor.facts()
    else:
        words = (recipe_file, overrides, cluster_name)
        found = doctor.facts(partial(resolve.load, *words, refuse=False))
    (print_json if as_json else doctor.show)(found)


if __name__ == "__main__":
    main(app)
