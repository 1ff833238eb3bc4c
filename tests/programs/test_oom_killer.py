"""The kernel's OOM killer, in a cgroup with a limit: which process it has killed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import memory_group
from tests.conftest import ROOT

# A process that takes more than its group has, and one that somebody else kills.
PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from kit.cluster.oom_killer import OomKiller

Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
killer = OomKiller(**({"log": Path("/nowhere")} if sys.argv[2] == "count" else {}))
other = subprocess.Popen(["sleep", "600"])
other.kill()
other.wait()
assert killer.first_killed({"rank 0": other}) is None
greedy = subprocess.Popen([sys.executable, "-c", "bytearray(300_000_000)"])
greedy.wait()
found = killer.first_killed({"rank 1": greedy})
print(greedy.pid, found.who, found.certain, found.text, sep="|")
"""
# The process that scores a task, which takes as much.
SCORING = """
import os, sys
from pathlib import Path
from kit.release.tasks import harness

Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
print(harness._ended([sys.executable, "-c", "bytearray(300_000_000)"], os.environ))
print(harness._ended([sys.executable, "-c", "raise SystemExit(3)"], os.environ))
"""


def output(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("by", ["log", "count"])
def test_a_process_that_takes_more_than_its_group_has_is_told(by: str) -> None:
    with memory_group.limited(100_000_000) as group:
        pid, who, certain, text = output(PROGRAM, str(group), by).split("|")
    assert (who, certain) == ("rank 1", "True")
    assert text.endswith(f"; 100 MB is the limit of {group}")
    assert by == "log" or f"; oom_kill in {group}/memory." in text
    if f"process {pid} had " not in text:  # where the kernel's log cannot be read
        assert "rose from 0 to 1" in text


def test_so_is_the_process_that_scores_a_task() -> None:
    with memory_group.limited(100_000_000) as group:
        killed, ended = output(SCORING, str(group)).splitlines()
    assert killed.startswith("was killed by the kernel for lack of memory; ")
    assert ended == "ended with exit code 3"
