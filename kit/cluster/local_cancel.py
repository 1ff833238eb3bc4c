"""Cancelling what runs on this machine: the supervisor ends its tasks, and the training saves first."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster import lock
from kit.cluster.jobs import Ended
from kit.cluster.processes import GRACE
from kit.errors import ClusterError, RunError
from kit.output import program
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.store.paths import Run

_ENDING = 2 * GRACE + 30  # seconds from SIGTERM until the supervisor is gone
_POLL = 0.2


def end(
    run: Run,
    names: Sequence[str],
    say: Callable[[str], None],
    is_starting: Callable[[str], bool],
) -> list[Ended]:
    """End the process that runs one of the jobs `names`; see kit/cluster/scheduler.py."""
    record = read_json(run.jobs) if run.jobs.is_file() else {}
    process = run.supervisor.read_text(encoding="utf-8") if run.supervisor.is_file() else "?"
    held = run.root.is_dir() and lock.is_held(run)
    if not held and not is_starting(process):
        _refuse_other_machine(run, record, process)
        return []
    jobs: list[dict[str, Any]] = record.get("local", [])
    present = max((number for number, job in enumerate(jobs) if "begun" in job), default=0)
    left = [job["name"] for job in jobs[present:]]
    if left and not set(left) & set(names):
        return []
    if left and left[0] not in names:
        raise RunError(
            f"{run.root}: process {process} is running {left[0]}, before {names[0]}, and is cancelled "
            f"as a whole: {program.command('pipeline', 'cancel', run.root)}"
        )
    say(
        f"process {process} ends: training saves its last full step, other tasks keep finished units"
    )
    _terminate(run, process)
    states = ["running", *["queued"] * (len(left) - 1)]
    found = [Ended(name, f"process {process}", was) for name, was in zip(left, states, strict=True)]
    return found or [Ended(None, f"process {process}", "running")]


def _refuse_other_machine(run: Run, record: dict[str, Any], process: str) -> None:
    """Raise RunError if a process of another machine runs the jobs: its file is still there."""
    node = record.get("node", socket.gethostname())
    if node != socket.gethostname() and run.supervisor.is_file():
        raise RunError(
            f"{run.root}: process {process} of {node} runs it, unless it was killed; cancel it there: "
            f"ssh {node} kill {process}"
        )


def _terminate(run: Run, process: str) -> None:
    """Send SIGTERM, and wait until the process has let go of the run. Raises ClusterError, RunError."""
    try:
        os.kill(int(process), signal.SIGTERM)
    except (ValueError, ProcessLookupError):
        raise RunError(f"{run.root}: its process is just starting or ending; try again") from None
    except PermissionError:
        raise RunError(f"{run.root}: process {process} belongs to another user") from None
    deadline = time.monotonic() + _ENDING
    while lock.is_held(run) or _exists(process):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{run.root}: process {process} has not ended in {_ENDING} s; kill -9 {process}"
            )
        time.sleep(_POLL)


def _exists(process: str) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        stat = (Path("/proc") / process / "stat").read_text(encoding="utf-8")
        return stat.rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False
