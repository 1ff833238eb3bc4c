"""Processes that end with the supervisor that started them."""

from __future__ import annotations

import signal
import subprocess
import sys

# A supervisor and its task: the task says its process id, or what it was refused with, and waits.
TASK = """
import os, sys, time
from kit.cluster import launch
from kit.errors import Interrupted
try:
    launch.end_with(int(sys.argv[1]))
except Interrupted as refused:
    print(refused, flush=True)
    sys.exit(75)
print(os.getpid(), flush=True)
time.sleep(600)
"""
SUPERVISOR = f"""
import os, subprocess, sys
task = subprocess.Popen([sys.executable, "-c", {TASK!r}, str(os.getpid())])
task.wait()
"""


def test_a_task_is_ended_with_its_supervisor() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        assert int(supervisor.stdout.readline())
        supervisor.kill()
        assert supervisor.stdout.read() == ""  # at the end of the last process that holds it
    assert supervisor.returncode == -signal.SIGKILL


def test_a_task_that_starts_after_its_supervisor_died_leaves() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    task = subprocess.run(
        [sys.executable, "-c", TASK, str(dead.pid)], capture_output=True, text=True, check=False
    )
    assert task.returncode == 75
    assert task.stdout == f"the supervisor, process {dead.pid}, has died\n"
