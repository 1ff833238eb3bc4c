"""What tasks of tests/programs/test_forkserver.py do, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.store.paths import Run

_imported_by = os.getpid()


def preload() -> None:
    """As slow and as faulty as the test wants it."""
    time.sleep(float(os.environ.get("PRELOAD_SECONDS", "0")))
    if "PRELOAD_FAILS" in os.environ:
        raise ImportError("no such library")


def work(run: Run, task: int, tasks: int) -> None:
    """Say who this is, and end as the task's number wants it."""
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "imported_by": _imported_by,
        "rank": os.environ["RANK"],
        "title": Path("/proc/self/comm").read_text(encoding="utf-8").strip(),
        "input": sys.stdin.read(),
        "tasks": tasks,
    }
    print(json.dumps(facts), flush=True)
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 2:
        preload()
