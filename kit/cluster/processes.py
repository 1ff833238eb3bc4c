"""The processes that the local supervisor starts: the ranks of a job, or the tasks of some jobs in turn."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.cluster import launch
from kit.errors import DONE, INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kit.config import Cluster
    from kit.workspace import Run

_POLL = 0.1
GRACE = 60  # seconds from TERM to KILL, as Slurm's KillWait


@dataclass
class Processes:
    """The processes of one task: one, or a rank each."""

    token: str
    processes: list[subprocess.Popen[bytes]]

    @classmethod
    def of_task(
        cls,
        run: Run,
        cluster: Cluster,
        job_id: str,
        ranks: int,
        restarts: int,
        more: dict[str, str] | None = None,
    ) -> Processes:
        """Start every rank of a task; `more` are variables besides those of every task."""
        processes = []
        token = ""
        for rank in range(ranks):
            place = launch.local_place(run, job_id, rank, ranks, restarts)
            token = place.token
            processes.append(
                _start(run, cluster, place.command, place.environment | (more or {}), place.log)
            )
        return cls(token, processes)

    def signal(self, number: int) -> None:
        """Send a signal to those that have not ended."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def end(self) -> None:
        """TERM, and KILL after the grace time."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self.code() is None and time.monotonic() < deadline:
            time.sleep(_POLL)
        self.signal(signal.SIGKILL)

    def code(self) -> int | None:
        """The highest exit code when all processes have ended; 128 + n for signal n; else None."""
        codes = [process.poll() for process in self.processes]
        if any(code is None for code in codes):
            return None
        return max(code if code >= 0 else 128 - code for code in codes if code is not None)

    def failed(self) -> bool:
        """Whether one process has ended otherwise than done or interrupted."""
        return any(process.poll() not in (None, DONE, INTERRUPTED) for process in self.processes)


@dataclass
class InTurn(Processes):
    """One process that does the tasks of several jobs, one after the other."""

    tokens: list[str]
    _told: int  # a pipe: a byte for each task that is done

    @classmethod
    @contextlib.contextmanager
    def of_tasks(
        cls, run: Run, cluster: Cluster, job_ids: Sequence[str], restarts: int
    ) -> Iterator[InTurn]:
        """Start it, and end it with the block."""
        places = [launch.local_place(run, job_id, 0, 1, restarts) for job_id in job_ids]
        told, tell = os.pipe()
        os.set_blocking(told, False)
        turns = [[str(p.folder), str(p.log), p.environment] for p in places]
        command = [sys.executable, "-u", "-m", "kit.cluster.turns", str(tell), json.dumps(turns)]
        process = _start(run, cluster, command, places[0].environment, places[0].log, tell)
        os.close(tell)
        made = cls(places[0].token, [process], [place.token for place in places], told)
        try:
            yield made
        finally:
            made.end()
            os.close(told)

    def newly_done(self) -> int:
        """How many tasks were done since it was last asked."""
        try:
            return len(os.read(self._told, 1000))
        except BlockingIOError:
            return 0


def _start(
    run: Run,
    cluster: Cluster,
    command: list[str],
    variables: dict[str, str],
    log_file: Path,
    *kept: int,
) -> subprocess.Popen[bytes]:
    with log_file.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is the supervisor's to pass on
            env=os.environ | launch.job_environment(run, cluster) | variables,
            pass_fds=kept,
        )
