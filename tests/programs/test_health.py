"""A step that does not end: its stacks are printed, and the process ends. A stopped process goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil

from kit.store.files import read_json
from kit.training import last_resort
from tests.speed import patience

if TYPE_CHECKING:
    from pathlib import Path


HANG = """
import sys, threading, time
from pathlib import Path
from kit.training.health import Watchdog

def wait_for_ever():
    threading.Event().wait()

def record():
    time.sleep(4.0)  # longer than the other ranks are given
    Path(sys.argv[1]).with_name("record").touch()

watchdog = Watchdog(Path(sys.argv[1]), "job.0", 3, bound=float(sys.argv[3]), first=20, record=record)
for _ in range(3):
    watchdog.begin("step 7")
    watchdog.step_ended(0.001)
watchdog.begin("step 8")
if sys.argv[2] == "hang":
    wait_for_ever()
time.sleep(2)
watchdog.disarm()
print("left in peace")
"""


def start(note: Path, root: Path, how: str, bound: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HANG, str(note), how, str(bound)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_step_without_end_leaves_its_stacks_and_ends_the_process(
    tmp_path: Path, root: Path
) -> None:
    done = start(tmp_path / "hang.json", root, "hang", 1.5)
    assert done.returncode == 1
    assert "step 8 has not ended after" in done.stderr
    assert "in wait_for_ever" in done.stderr
    note = read_json(tmp_path / "hang.json")
    assert (note["job"], note["rank"], note["what"]) == ("job.0", 3, "step 8")
    assert note["seconds"] > 1.5
    assert (tmp_path / "record").exists()


def test_what_is_looked_at_within_its_time_is_left_in_peace(tmp_path: Path, root: Path) -> None:
    done = start(tmp_path / "hang.json", root, "end", 20.0)
    assert done.stdout == "left in peace\n"
    assert not {*tmp_path.iterdir()}


STUCK = """
import ctypes, sys
from kit.training.last_resort import LastResort

def keep_the_interpreter():
    ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock: no thread of Python runs

guard = LastResort()
guard.allow(float(sys.argv[1]))
print("allowed", flush=True)
if sys.argv[2] == "stuck":
    keep_the_interpreter()
sys.stdin.readline()
guard.allow(0.0)
guard.close()
print("left in peace")
"""
SPARE = last_resort._SPARE  # seconds that it adds


def guarded(root: Path, seconds: float, how: str) -> subprocess.Popen[str]:
    """A process that has so many seconds of silence."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(seconds - SPARE), how],
        cwd=root, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "allowed\n"
    return process


def test_a_stuck_interpreter_is_killed_from_outside_and_its_stacks_are_printed(root: Path) -> None:
    process = guarded(root, 1.0, "stuck")
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert f"process {process.pid} has not responded" in errors
    assert "in keep_the_interpreter" in errors


def test_a_stopped_process_is_not_killed(root: Path) -> None:
    process = guarded(root, 2.0, "idle")
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(4.0)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGCONT)
    output, errors = process.communicate("\n")
    assert (process.returncode, output, errors) == (0, "left in peace\n", "")


def test_a_rank_ends_although_the_process_beside_it_is_stopped(root: Path) -> None:
    process = guarded(root, 100.0, "idle")
    (beside,) = psutil.Process(process.pid).children()
    beside.suspend()
    output, errors = process.communicate("\n", timeout=patience(60))
    assert (process.returncode, output, errors) == (0, "left in peace\n", "")
