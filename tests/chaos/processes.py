"""Processes of a run on this machine, held by descriptors: a process id may pass on to another."""

from __future__ import annotations

import os
import re
import select
import signal
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.store.paths import Run


class Process:
    """A process, while it lives and after."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError where there is none."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._descriptor)

    def alive(self) -> bool:
        """Whether it has not ended; a zombie has."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing if it has ended."""
        if self.alive():
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                return


@dataclass
class Start:
    """The ranks of one start of the training job, and its token (see kit.cluster.launch)."""

    token: str
    ranks: dict[int, Process]

    def alive(self) -> bool:
        """Whether one of them is left."""
        return any(process.alive() for process in self.ranks.values())

    def send(self, number: signal.Signals, *ranks: int) -> None:
        """Send a signal to some ranks; to all where none is named."""
        for rank in ranks or sorted(self.ranks):
            self.ranks[rank].send(number)

    def wait(self, patience: float) -> bool:
        """Wait until nobody is left; whether that came true."""
        end = time.monotonic() + patience
        while self.alive() and time.monotonic() < end:
            time.sleep(0.02)
        return not self.alive()


def starts(run: Run) -> dict[str, Start]:
    """All starts of a run's training job that have a process, by token."""
    found: dict[str, Start] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            place = _place(path, run)
            # A child has the name and the words of its parent until it begins another program.
            if place is None or place == _place(path.with_name(_parent(path)), run):
                continue
            process = Process(int(path.name))
        except OSError:  # it has just ended
            continue
        if process.alive():
            token, rank = place
            found.setdefault(token, Start(token, {})).ranks[rank] = process
    return found


def _place(path: Path, run: Run) -> tuple[str, int] | None:
    """Token and rank of a process, if it is a rank of this run."""
    program = [os.fsdecode(word) for word in (path / "cmdline").read_bytes().split(b"\0")]
    # srun has the words of a rank in its command line too, and the variables of rank 0
    if "python" not in Path(program[0]).name:
        return None
    return _forked(path, program, run) or _begun(path, program, run)


def _parent(path: Path) -> str:
    return (path / "stat").read_text().rpartition(") ")[2].split()[1]


def _forked(path: Path, program: list[str], run: Run) -> tuple[str, int] | None:
    """Token and rank of a process that kit.cluster.forkserver has forked as a rank of this run."""
    title = re.fullmatch(r"(train-0)\.(\d+)/(\d+)\n", (path / "comm").read_text())
    if title is None or str(run.root) not in program:
        return None
    return f"{title[1]}-{program[-2]}.{title[2]}", int(title[3])


def _begun(path: Path, program: list[str], run: Run) -> tuple[str, int] | None:
    """Token and rank of a process that srun has begun as one."""
    if str(run.job_logs("train")) not in program:
        return None
    variables = dict(
        entry.split("=", 1)
        for entry in os.fsdecode((path / "environ").read_bytes()).split("\0")
        if "=" in entry
    )
    if "SLURM_PROCID" not in variables:
        return None
    restarts = variables.get("SLURM_RESTART_COUNT", "0")
    return f"{variables['SLURM_JOB_ID']}.{restarts}", int(variables["SLURM_PROCID"])
