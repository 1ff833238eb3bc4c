"""The verb `guard` of `watch`: reports alerts without a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import Arguments, tell_differences
from kit.errors import ConfigError, JobFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.cluster.snapshot import Snapshot
    from kit.watch.sight import Sight

_PAUSE = 60.0  # seconds between two looks of a guard, at least: each calls squeue


def guard(
    arguments: Arguments,
    once: Annotated[bool, typer.Option("--once", help="Look once, for cron.")] = False,
    every: Annotated[
        float | None,
        typer.Option("--every", metavar="SECONDS", help="Time between two looks. Default: 60."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test message and a heartbeat, and nothing else.")
    ] = False,
) -> None:
    """Report the alerts of a run by `alerts.command` of the recipe, until the run is done.

    Each alert is reported once, again every hour while it holds, and when it is resolved. Several guards of
    a run report it only once. Exit codes: 0 done, or with --once it saw the run and all messages arrived;
    1 it could not see the run, or a message did not arrive; 75 stopped by a signal.
    """
    from kit.output.interrupt import keeping
    from kit.watch.guard import Guard

    project = arguments.load(refuse=False)
    if not project.run.root.is_dir():
        raise ConfigError(f"{project.run.root}: no such run; submit it first")
    if sum((once, test, every is not None)) > 1:
        raise ConfigError("give only one of --once, --every and --test")
    pause = _PAUSE if every is None else every
    if pause < _PAUSE:
        raise ConfigError(
            f"--every {every:g}: Slurm is asked once a minute at most; give 60 or more"
        )
    tell_differences(project, spare="alerts.")
    watcher = Guard(project.run, project.recipe.alerts, _eyes(arguments), _say)
    with keeping("only the guard ends; the run continues"):
        if test:
            problems: Sequence[str] = watcher.test()
        elif once:
            look = watcher.look()
            problems = [*([f"blind: {look.blind}"] if look.blind else []), *look.problems]
        else:
            _say(f"guarding {project.run.root}: a look every {pause:g} s, until the run is done")
            watcher.loop(pause)
            problems = ()
    if problems:
        raise JobFailed("\n".join(problems))


def _eyes(arguments: Arguments) -> Callable[[int | None], Sight]:
    """A function that looks at the run as it is now, with its amendments."""
    import time

    from kit.cluster.snapshot import snapshot
    from kit.cluster.state import PATIENCE
    from kit.relay import queue_answer, status
    from kit.run import begun
    from kit.watch import sight, view

    seen: Snapshot | None = None  # at the last look

    def see(last_step: int | None) -> Sight:
        nonlocal seen
        given = arguments.load(refuse=False)
        project = begun.own(given)
        seen = snapshot(project.run, seen)
        answer = queue_answer.ask(seen, patience=PATIENCE)  # nobody waits for it
        # Whoever reads a message may be in another folder than the recipe.
        words = status.words_of(project.run.root, None, arguments.cluster_name)
        chain = status.facts(project, words, seen=seen, queue=answer)
        facts = view.facts(
            project, chain, seen, time.time(), queue=answer.facts(), last_step=last_step
        )
        newest = seen.attempts[-1].damage if seen.attempts else None
        return sight.sight(given.recipe.alerts, facts, newest)

    return see


def _say(line: str) -> None:
    print(line, flush=True)
