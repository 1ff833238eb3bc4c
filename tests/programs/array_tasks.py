"""The tasks of tests/programs/test_local_array.py, in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from kit.store.paths import Run

FAILS, FAILS_ONCE, WAITS = 0, 1, 2  # tasks; any other one ends at once
_PATIENCE = 20.0


def starts(run: Run, task: int) -> list[Path]:
    """A file for each start of a task."""
    return sorted(run.root.glob(f"start-{task}-*"))


def work(run: Run, task: int, tasks: int) -> None:
    """End as the task's number wants it."""
    number = len(starts(run, task))
    (run.root / f"start-{task}-{number}").touch()
    if task == FAILS or (task == FAILS_ONCE and number == 0):
        sys.exit(1)
    while task == WAITS and not (run.root / "go").exists():
        time.sleep(0.02)


def killed_for_memory(run: Run, task: int, tasks: int) -> None:
    """End as a process that the kernel kills, which counts it in the group of the test."""
    (run.root / "group/memory.events.local").write_text("oom_kill 1\n")
    os.kill(os.getpid(), signal.SIGKILL)


def ends_together(run: Run, task: int, tasks: int) -> None:
    """Leave after SIGTERM once all tasks have it; alone after a while."""

    def leave(number: int, frame: FrameType | None) -> None:
        (run.root / f"signalled-{task}").touch()
        deadline = time.monotonic() + _PATIENCE
        while len([*run.root.glob("signalled-*")]) < tasks:
            if time.monotonic() > deadline:
                (run.root / f"alone-{task}").touch()
                break
            time.sleep(0.02)
        sys.exit(75)

    signal.signal(signal.SIGTERM, leave)
    (run.root / f"start-{task}-0").touch()
    signal.pause()
