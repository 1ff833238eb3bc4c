"""The long training job: ZeRO, checkpoints, requeued until it is done.

python -m jobs.train run demo
python -m jobs.train rehearse gpt2-xl-ja --cluster mdx --synthetic
python -m jobs.train amend work/demo/runs/demo training.steps=200
python -m jobs.train fork work/demo/runs/demo --at 100 name=slower training.learning_rate=1e-3
python -m jobs.train fork work/demo/runs/demo --at 100 --decay 40 name=branch
"""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.command import Arguments, Json, main, print_json, verb
from jobs.stage import stage_app
from kit.errors import ConfigError
from kit.relay.resolve import read_run

RunDirectory = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run directory, as work/demo/runs/demo.")
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value ...]", help="What is to change."),
]
Schedule = Annotated[
    Literal["continue", "anew"] | None,
    typer.Option(
        "--schedule",
        help="Of another end: the learning rate goes on from where it is (as without this option), or is "
        "that of the new end from step 0, and jumps.",
    ),
]

app = stage_app(
    "train",
    "The long training job: ZeRO, checkpoints, requeued until it is done.",
    "Train the model",
)


@verb(app, "amend", "work/demo/runs/demo training.steps=200")
def amend_verb(
    directory: RunDirectory,
    changes: Changes = None,
    code: Annotated[
        bool, typer.Option("--code", help="Take the code and packages that run now.")
    ] = False,
    schedule: Schedule = None,
) -> None:
    """Change what may be changed in mid-run; on record, for the attempts to come."""
    from kit.cluster import amend_queued
    from kit.config import amendments
    from kit.relay import amendment_forecast
    from kit.run import proposal
    from kit.run.directory import amend

    if not changes and not code:
        raise ConfigError("amend: name what is to change, as training.steps=200, or give --code")
    project = read_run(directory)
    run = project.run
    amendment = proposal.propose(project, changes or [], schedule)
    found = amendment_forecast.forecast(project, amendment)
    rows = amend(run, amendment, code=code)
    for row in rows:
        if row["key"] == amendments.ENVIRONMENT:
            print(f"environment: {', '.join(row['old'])} -> {', '.join(row['new'])}")
        else:
            print(f"{row['key']}: {row['old']} -> {row['new']}")
    for line in amendment_forecast.lines(found) if found else ():
        print(line)
    for line in amend_queued.apply(run, {row["key"]: row["new"] for row in rows}):
        print(line)
    if not rows:
        print(f"{run.root}: nothing to amend, all is so already")


@verb(app, "fork", "work/demo/runs/demo --at 80 name=slower training.learning_rate=1e-3")
def fork_verb(
    directory: RunDirectory,
    step: Annotated[int, typer.Option("--at", metavar="STEP", help="Of a checkpoint of RUN.")],
    changes: Annotated[
        list[str],
        typer.Argument(metavar="name=NEW [section.key=value ...]", help="What is to be other."),
    ],
    decay: Annotated[
        int | None,
        typer.Option(
            "--decay",
            metavar="N",
            min=1,
            help="Decay the learning rate from where it is over N steps, which end the new run.",
        ),
    ] = None,
    schedule: Schedule = None,
) -> None:
    """Begin a new run from a checkpoint of another one, with other settings."""
    from kit.relay import fork

    project = read_run(directory)
    made = fork.begin(project, step, changes, decay, schedule)
    ends = f", decays over {decay} steps" if decay else ""
    print(f"{made.root}: begins with step {step} of {project.run.root.name}{ends}; to start it:")
    print(shlex.join(["python", "-m", "jobs.train", "submit", str(made.root)]))


@verb(app, "rehearse", "gpt2-xl-ja --cluster mdx --synthetic")
def rehearse_verb(
    arguments: Arguments,
    steps: Annotated[int, typer.Option("--steps", min=10, help="How many.")] = 50,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="On random tokens, before there are others.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run some steps of the real recipe, and say what the whole run would take."""
    from kit.relay import rehearsal

    project = arguments.load(refuse=False)
    found = rehearsal.rehearse(project, steps, with_synthetic=synthetic)
    (print_json if as_json else rehearsal.show)(found)


if __name__ == "__main__":
    main(app)
