"""The long training job, requeued until it is done.

python -m jobs.train run demo
python -m jobs.train rehearse gpt2-xl-ja --cluster mdx --synthetic
python -m jobs.train amend work/demo/runs/demo training.steps=200
python -m jobs.train fork work/demo/runs/demo --at 100 name=slower training.learning_rate=1e-3
python -m jobs.train fork work/demo/runs/demo --at 100 --decay 40 name=branch
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.command import (
    Arguments,
    DryRun,
    Json,
    main,
    print_json,
    tell_kept_micro_batch,
    verb,
)
from jobs.stage import stage_app
from kit.errors import FAILED, ConfigError
from kit.output import program

RunDirectory = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run directory, for example work/demo/runs/demo.")
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value ...]", help="Settings to change."),
]
Schedule = Annotated[
    Literal["continue", "anew"] | None,
    typer.Option(
        "--schedule",
        help="If the last step changes: `continue` the learning rate from its present value (the default), "
        "or compute it `anew` for the new length from step 0, with a jump.",
    ),
]

app = stage_app(
    "train",
    "The long training job, requeued until it is done.",
    "Train the model",
)


@verb(app, "amend", "work/demo/runs/demo training.steps=200")
def amend_verb(
    directory: RunDirectory,
    changes: Changes = None,
    code: Annotated[
        bool,
        typer.Option("--code", help="Replace the run's code by this checkout and these packages."),
    ] = False,
    schedule: Schedule = None,
) -> None:
    """Change settings of a run in progress; recorded, and applied from the next attempt."""
    from kit.cluster import amend_queued
    from kit.config import amendments
    from kit.relay import amendment_forecast, resolve, trainable
    from kit.run import proposal
    from kit.run.directory import amend

    if not changes and not code:
        raise ConfigError(
            "amend: name a setting to change, such as training.steps=200, or give --code"
        )
    project = resolve.read_run(directory)
    run = project.run
    proposed = proposal.propose(project, changes or [], schedule)
    trainable.check(proposed.recipe, proposed.cluster, begun=True)
    forecast = amendment_forecast.forecast(project, proposed)
    rows = amend(run, proposed, code=code)
    for row in rows:
        if row["key"] == amendments.ENVIRONMENT:
            print(f"environment: {', '.join(row['old'])} -> {', '.join(row['new'])}")
        else:
            why = f" ({row['reason']})" if "reason" in row else ""
            print(f"{row['key']}: {row['old']} -> {row['new']}{why}")
    for line in amendment_forecast.lines(forecast) if forecast else ():
        print(line)
    for line in amend_queued.apply(run, {row["key"]: row["new"] for row in rows}):
        print(line)
    if not rows:
        print(f"{run.root}: nothing to change, the run already has these values")


@verb(app, "fork", "work/demo/runs/demo --at 80 name=slower training.learning_rate=1e-3")
def fork_verb(
    directory: RunDirectory,
    step: Annotated[
        int, typer.Option("--at", metavar="STEP", help="Step of the checkpoint to start from.")
    ],
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="name=NEW [section.key=value ...]",
            help="Name of the new run, and settings to change in it.",
        ),
    ],
    decay: Annotated[
        int | None,
        typer.Option(
            "--decay",
            metavar="N",
            min=1,
            help="Decay the learning rate to its end over the next N steps, and end the new run there.",
        ),
    ] = None,
    schedule: Schedule = None,
) -> None:
    """Start a new run from a checkpoint of another one, with different settings."""
    from kit.cluster.snapshot import snapshot
    from kit.relay import fork, resolve

    project = resolve.read_run(directory)
    run = fork.begin(project, step, changes, decay, schedule)
    ending = f", decays over {decay} steps" if decay else ""
    print(f"{run.root}: begins with step {step} of {project.run.root.name}{ending}; to start it:")
    verb = snapshot(project.run, curve=False).submitted.verb_on(project.cluster)
    print(program.command("train", verb, run.root))


@verb(app, "rehearse", "gpt2-xl-ja --cluster mdx --synthetic")
def rehearse_verb(
    arguments: Arguments,
    steps: Annotated[int, typer.Option("--steps", min=10, help="Number of steps.")] = 50,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Use random tokens; needs no corpus yet.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write a trace of some steps, and their time by part.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a few steps of the real recipe, and estimate the whole run from them.

    With training.micro_batch=auto, try the largest that fits by the plan, and smaller ones if a rank runs
    out of memory.
    """
    from kit.relay import rehearsal_page, rehearsing

    project = arguments.load(refuse=False, keep_micro_batch=False)
    figures = rehearsing.rehearse(project, steps, with_synthetic=synthetic, profile=profile)
    (print_json if as_json else rehearsal_page.show)(figures)


@verb(app, "acceptance", "gpt2-xl-ja --cluster mdx")
def acceptance_verb(
    arguments: Arguments,
    steps: Annotated[int, typer.Option("--steps", min=20, help="Steps to measure.")] = 100,
    here: Annotated[
        bool,
        typer.Option(
            "--here", help="Use this machine, in the foreground, instead of submitting a job."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Show in about ten minutes whether a cluster can train the recipe, and write a report.

    On random tokens: checks of the nodes, the largest micro-batch, rate and memory beside the plan, a
    profile, saves and loads, runs that are interrupted by each signal, compared with runs that are not, and
    two nodes. On Slurm this is a job: the command submits it and returns immediately.
    """
    from kit.relay.acceptance import accept, submission

    project = arguments.load(refuse=False)
    tell_kept_micro_batch(arguments, project)
    if submission.submits(project, here=here):
        prepared = submission.prepare(project, steps)
        if dry_run:
            shown = {"name": prepared.job.name, "script": prepared.script}
            print_json(shown) if as_json else print(prepared.script, end="")
        else:
            facts = submission.submit(prepared)
            (print_json if as_json else submission.show)(facts)
        return
    if dry_run:
        raise ConfigError("--dry-run: nothing is submitted on this machine; leave it out")
    report = accept.here(project, steps)
    (print_json if as_json else accept.show)(report)
    if not report["passed"]:
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    main(app)
