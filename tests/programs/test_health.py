"""A step that does not end: its stacks are told, and the process ends itself."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from kit.store.files import read_json

if TYPE_CHECKING:
    from pathlib import Path


HANG = """
import sys, threading, time
from pathlib import Path
from kit.training.health import Watchdog

def wait_for_ever():
    threading.Event().wait()

watchdog = Watchdog(Path(sys.argv[1]), "job.0", 3, bound=float(sys.argv[3]), first=20)
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


def test_what_is_looked_at_within_its_time_is_left_in_peace(tmp_path: Path, root: Path) -> None:
    done = start(tmp_path / "hang.json", root, "end", 20.0)
    assert done.stdout == "left in peace\n"
    assert not (tmp_path / "hang.json").exists()
