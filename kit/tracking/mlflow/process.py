"""The process that publishes a run to MLflow beside its training.

    python -m kit.tracking.mlflow.process RUN PATIENCE

`beside` starts it, with a pipe as its standard input: once that is closed, the attempt is over, or its
rank 0 is dead. It sends the rest and ends; PATIENCE are the seconds for which it tries, if MLflow does not
answer.
No failure here reaches the training.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.output import log
from kit.store.paths import Run
from kit.tracking import ledger
from kit.tracking.mlflow import client as door
from kit.tracking.mlflow import results, status
from kit.tracking.mlflow.curve import Host
from kit.tracking.mlflow.publishing import settle
from kit.tracking.mlflow.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.tracking.mlflow.status import Status

_PAUSE = 5.0  # seconds between batches
_RETRY = 1.0  # seconds after an error once the attempt is over
_NICE = 10
_AUTOGROUP = Path("/proc/self/autogroup")


class Publisher:
    """Publishes a run again and again; a lost connection, or a run deleted there, is looked up again."""

    def __init__(self, run: Run, recipe: Recipe, current: Callable[[], Status]) -> None:
        """`current` returns the status of the run."""
        self._run, self._recipe, self._current = run, recipe, current
        self._store: Store | None = None
        self._told: Status | None = None  # the status at which the results were sent
        self.sent = 0  # rows

    def send(self, values: Callable[[], dict[str, float]] = dict) -> str | None:
        """Bring MLflow up to date, with `values` of this moment; returns a problem in one line, or None."""
        problem = None
        for _ in range(2):  # a user may have deleted the run: then it is looked up again
            try:
                if self._store is None:
                    self._store = Store(self._run, self._recipe)
                    self._told = None
                return self._send(self._store, values)
            except Exception as error:  # MLflow may raise anything
                problem = door.brief(error)
                opened, self._store = self._store is not None, None
                if not opened:
                    break
        return problem

    def _send(self, store: Store, values: Callable[[], dict[str, float]]) -> str | None:
        store.refresh()
        self.sent += store.send_rows()
        store.send_devices()
        if readings := values():
            store.send_values(readings, time.time())
        store.send_tags()
        settle(store, self._current)
        now = self._current()
        if now == self._told:
            return None
        problem = results.send(store, self._run, self._recipe)
        self._told = now if problem is None else None
        return problem


def follow(run: Run, recipe: Recipe, is_over: Callable[[float], bool], patience: float) -> None:
    """Publish a run until `is_over`, which waits up to the given seconds for the end of the attempt.

    After the end it goes on for up to `patience` seconds until MLflow has everything.
    """
    while not _has_rows(run):  # MLflow is imported once there is something to send
        if is_over(_PAUSE):
            break
    over = is_over(0.0)

    def current() -> Status:
        found = status.of_files(run)
        return "SCHEDULED" if over and found == "RUNNING" else found

    publisher, host, warned, deadline = Publisher(run, recipe, current), Host(), False, 0.0
    while run.identity.is_file():  # else somebody has removed the run
        problem = publisher.send(dict if over else host.values)
        if problem and not warned:
            log.warning(f"mlflow: {problem}; the rows will be sent later")
        warned = problem is not None
        if over:
            deadline = deadline or time.monotonic() + patience
            if problem is None or time.monotonic() > deadline:
                return
            time.sleep(_RETRY)
        else:
            over = is_over(_PAUSE)


def main(run_root: str, patience: float) -> None:
    """Publish until standard input is closed."""
    os.nice(_NICE)
    threading.Thread(target=_give_way, daemon=True).start()
    # Slurm sends these to every process of a job; the end of rank 0 ends this one.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    run = Run(Path(run_root))
    log.set_place("mlflow")
    follow(run, read_resolved(run.recipe, Recipe), _input_ends, patience)


def _give_way() -> None:
    """Let the training go first where both want a core; once it is over, do not, even during an import."""
    _weigh(_NICE)
    select.select([sys.stdin], [], [])
    _weigh(0)


def _weigh(nice: int) -> None:
    """Set the weight of this session against others, which `nice` alone does not: autogroup in sched(7)."""
    if os.getsid(0) == os.getpid():  # else it is that of whoever started this process
        with contextlib.suppress(OSError):  # a kernel without autogroups
            _AUTOGROUP.write_text(str(nice), encoding="ascii")


def _input_ends(seconds: float) -> bool:
    """Wait for the end of standard input; returns whether it has ended."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _has_rows(run: Run) -> bool:
    attempts = ledger.attempts(run)
    return bool(attempts) and attempts[-1].ledger.is_file()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
