"""The verbs `logs` and `cancel` of every job: for one that was submitted, or runs in another terminal.

python -m jobs.train logs -f demo
python -m jobs.pipeline cancel demo
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command import Arguments, Json, print_json
from kit.errors import ConfigError, RunError
from kit.output.interrupt import keeping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.task_logs import Selection
    from kit.config.run import Project
    from kit.relay.log_view import LogView
    from kit.store.paths import Run

LOGS = (
    "Print the logs of {what}: every attempt in order, and above the lines of each file its path."
)
CANCEL = (
    "Cancel {what}. Training saves first. Returns when nothing of it is left in the queue, and says what "
    "was done."
)
_KEPT = "the jobs go on; only this command ends"
_ENDING = "the jobs are ending; only this command stops waiting for them"


@dataclass(frozen=True)
class Reading:
    """Options of `logs`."""

    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Continue with new lines, over requeues, until the job is over."
        ),
    ] = False
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", min=1, metavar="N", help="Begin with the last N lines."),
    ] = None
    task: Annotated[
        int | None,
        typer.Option("--task", min=0, metavar="N", help="Only task N, as in the file's name."),
    ] = None
    rank: Annotated[
        int | None, typer.Option("--rank", min=0, metavar="N", help="Only rank N of the training.")
    ] = None
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", min=1, metavar="N", help="Only attempt N, from 1."),
    ] = None
    as_json: Json = False

    @property
    def selection(self) -> Selection:
        """The parts to show."""
        from kit.cluster.task_logs import Selection

        return Selection(self.task, self.rank, self.attempt)


def show_logs(name: str, arguments: Arguments, reading: Reading) -> None:
    """Print the logs of a stage and its passes."""
    from kit.relay.stages import stages_of

    project = arguments.load(refuse=False)
    names = [stage.name for stage in stages_of(project.recipe, name)]
    show_logs_of(project.run, names, reading)


def show_logs_of_chain(arguments: Arguments, reading: Reading, *, every: bool) -> None:
    """Print the logs of the stage that matters now, or of all; then follow the whole chain."""
    from kit.cluster import task_logs
    from kit.relay import log_view, status
    from kit.run import begun

    project = begun.own(arguments.load(refuse=False))
    stages = status.facts(project, arguments.words_for(project))
    names = [*stages] if every else log_view.that_matter(stages)
    if len(names) == 1 and (stage := stages[names[0]])["log"] and stage["state"] == "failed":
        log = task_logs.log_of(Path(stage["log"]))
        if log is not None and reading.task is None:
            reading = replace(reading, task=log.task)
        _tell(f"{names[0]} failed: {stage['reason']}")
    show_logs_of(project.run, names, reading, [name for name in stages if name not in names])


def show_logs_of(
    run: Run, names: Sequence[str], reading: Reading, others: Sequence[str] = ()
) -> None:
    """Print the logs of some stages; `others` are followed as well, from now on."""
    from kit.relay.following import Jobs
    from kit.relay.log_view import LogView

    if reading.follow and reading.as_json:
        raise ConfigError("--json, --follow: the JSON has no end to wait for; give one of the two")
    view = LogView(run, names, reading.selection, _write, others)
    jobs = Jobs(run, [*names, *others], _tell)
    if not view.parts and not (reading.follow and jobs(0.0)):
        raise RunError(
            f"{run.root}: no log of {', '.join(names)}; a job that waits has none, and `run` of one stage "
            "prints to its own terminal"
        )
    if reading.as_json:
        print_json({"run": str(run.root), "parts": view.facts()})
        return
    with keeping(_KEPT):
        _print(view, jobs, reading)


def _print(view: LogView, jobs: Any, reading: Reading) -> None:
    view.show(reading.lines)
    if reading.follow:
        view.follow(jobs)


def cancel(name: str, arguments: Arguments, as_json: Json = False) -> None:
    """Cancel a stage with its passes, and the stages behind it."""
    from kit.relay.stages import stages_of

    project = arguments.load(refuse=False)
    names = [stage.name for stage in stages_of(project.recipe, name)]
    cancel_of(project, names, arguments.words_for(project), name, as_json=as_json)


def cancel_of(
    project: Project, names: Sequence[str] | None, words: Sequence[str], job: str, *, as_json: bool
) -> None:
    """Cancel some stages of a run and those behind them; None: all, and jobs on single checkpoints."""
    from kit.relay import cancelling

    with keeping(_ENDING):
        facts = cancelling.cancel(project, names, [job, *words], _tell)
    if as_json:
        print_json(facts)
        return
    print(*cancelling.lines(facts), sep="\n")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
