"""Processes of a run on this machine, held by descriptors: a process id may pass on to another."""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.workspace import Run


class Process:
    """A process, while it lives and after."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError where there is none."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

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
    folder = str(run.job_logs("train")).encode()
    found: dict[str, Start] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            program = (path / "cmdline").read_bytes().split(b"\0")
            # srun has the same words in its command line, and the variables of rank 0
            if (
                folder not in program
                or b"python" not in Path(os.fsdecode(program[0])).name.encode()
            ):
                continue
            process = Process(int(path.name))
            variables = dict(
                entry.split("=", 1)
                for entry in os.fsdecode((path / "environ").read_bytes()).split("\0")
                if "=" in entry
            )
        except OSError:  # it has just ended
            continue
        if "SUBMITIT_LOCAL_GLOBALID" in variables:
            rank, token = variables["SUBMITIT_LOCAL_GLOBALID"], variables["EKIDEN_LOCAL_JOB"]
        elif "SLURM_PROCID" in variables:
            rank = variables["SLURM_PROCID"]
            token = f"{variables['SLURM_JOB_ID']}.{variables.get('SLURM_RESTART_COUNT', '0')}"
        else:
            continue
        if process.alive():
            found.setdefault(token, Start(token, {})).ranks[int(rank)] = process
    return found
