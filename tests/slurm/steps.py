"""A job whose one process starts ranks as steps, and ends them in three ways: for test_acceptance.py.

The ranks import nothing heavy: each says by a file that it is there, and which signal it got.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from kit.cluster import local_task
from kit.cluster.jobs import Job, token
from kit.cluster.steps import Steps
from kit.config.cluster import Cluster
from kit.config.section import read_resolved
from kit.relay.acceptance import trials
from kit.store.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run

INTERRUPTED = 75


def drive(run: Run, task: int, tasks: int) -> None:
    """Start the ranks three times: they are told to save, preempted, and one of them dies."""
    both = read_resolved(run.cluster, Cluster)
    local_task.announce(run, Job("rank", rank, resources="training"))
    found = []
    for restarts, number in enumerate((signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL)):
        starter = Steps(run, both if restarts == 0 else trials.on_nodes(both, 1), lambda: False)
        processes = starter.start("", "rank-0", restarts, ranks=2)
        while len([*folder(run).glob(f"{processes.token}-*-begun")]) < 2:
            time.sleep(0.05)
        if number == signal.SIGKILL:
            processes.kill_one()
        else:
            processes.signal(number)
        while (code := processes.code()) is None:
            time.sleep(0.05)
        found.append(code)
    write_json(run.root / "codes.json", found)


def rank(run: Run, task: int, tasks: int) -> None:
    """Wait for a signal; the rank that dies leaves no file about it."""
    name = f"{token()}-{os.environ['RANK']}"

    def told(number: int, frame: object) -> None:
        (folder(run) / f"{name}-{signal.Signals(number).name}").touch()
        os._exit(INTERRUPTED)

    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, told)
    folder(run).mkdir(exist_ok=True)
    (folder(run) / f"{name}-begun").touch()
    time.sleep(300)


def folder(run: Run) -> Path:
    return run.root / "told"
