"""Processes that the local supervisor starts: the ranks of a job, or a single task."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kit.cluster import launch, local_task
from kit.cluster.forkserver import ForkServer
from kit.errors import DONE, INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kit.config.cluster import Cluster
    from kit.store.paths import Run

_POLL = 0.1
GRACE = 60  # seconds from TERM to KILL, as Slurm's KillWait


class Process(Protocol):
    """The interface of a process: a Popen, or a fork."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def poll(self) -> int | None:
        """The exit code once it has ended, -n after signal n; else None."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal, if it has not ended."""


class Starting(Protocol):
    """The interface for starting tasks: `Starter`, or `Steps` in a job of Slurm."""

    def start(
        self, module: str, job_id: str, restarts: int, ranks: int = 1, more: Mapping[str, str] = ...
    ) -> Processes:
        """Start every rank of a task of `module`; `more` are additional environment variables."""

    def close(self) -> None:
        """End everything but tasks, which keep running."""


@dataclass
class Processes:
    """The processes of one task: one, or a rank each."""

    token: str
    processes: Sequence[Process]
    log: Path  # of the first of them
    log_begin: int  # its size in bytes before they started

    def signal(self, number: int) -> None:
        """Send a signal to the processes that have not ended."""
        for process in self.processes:
            process.send_signal(number)

    def kill_one(self) -> None:
        """Let the last rank die, as of a fault."""
        self.processes[-1].send_signal(signal.SIGKILL)

    def code(self) -> int | None:
        """The highest exit code when all processes have ended; 128 + n for signal n; else None."""
        codes = [process.poll() for process in self.processes]
        if any(code is None for code in codes):
            return None
        return max(code if code >= 0 else 128 - code for code in codes if code is not None)

    def stopped(self) -> bool:
        """Whether a process is stopped, as by SIGSTOP."""
        return any(_is_stopped(process.pid) for process in self.processes)

    def failed(self) -> bool:
        """Whether a process has ended with neither DONE nor INTERRUPTED."""
        return any(process.poll() not in (None, DONE, INTERRUPTED) for process in self.processes)


def _is_stopped(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return False
    return stat.rsplit(") ", 1)[1][0] == "T"


def end(several: Sequence[Processes]) -> None:
    """Send TERM to all, and KILL after one grace time."""
    for one in several:
        one.signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while any(one.code() is None for one in several) and time.monotonic() < deadline:
        time.sleep(_POLL)
    for one in several:
        one.signal(signal.SIGKILL)


class Starter:
    """Starts tasks through a fork server, or as new processes if they use GPUs."""

    def __init__(self, run: Run, cluster: Cluster, stopped: Callable[[], bool]) -> None:
        """`stopped`: whether the supervisor has been asked to stop."""
        self._run, self._cluster = run, cluster
        self._server = ForkServer(run, cluster, stopped) if cluster.device == "cpu" else None

    def start(
        self, module: str, job_id: str, restarts: int, ranks: int = 1, more: Mapping[str, str] = {}
    ) -> Processes:
        """Start every rank of a task of `module`; `more` are additional environment variables."""
        processes: list[Process] = []
        tasks = [
            local_task.of_job(self._run, job_id, rank, ranks, restarts, more)
            for rank in range(ranks)
        ]
        log = tasks[0].log
        begin = log.stat().st_size if log.is_file() else 0
        for rank, task in enumerate(tasks):
            title = f"{job_id}.{restarts}/{rank}"
            processes.append(
                self._server.fork(task, module, title) if self._server else self._begin(task)
            )
        return Processes(tasks[0].token, processes, log, begin)

    def close(self) -> None:
        """End the server, if there is one; its tasks keep running."""
        if self._server:
            self._server.close()

    def _begin(self, task: local_task.LocalTask) -> Process:
        with task.log.open("ab") as log:
            return subprocess.Popen(
                task.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the supervisor passes on a Ctrl-C
                env=os.environ
                | launch.job_environment(self._run, self._cluster)
                | task.environment,
            )
