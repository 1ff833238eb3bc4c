"""The health of a run: what is a bad step, and what is done about one that does not end."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kit.config.recipe import Health
from kit.plan.interval import checkpoint_interval
from kit.store.files import read_json
from kit.training.health import problem
from kit.training.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path


def after(steps: int) -> Progress:
    """A run whose losses were about 3, and its gradient norms about 1."""
    progress = Progress()
    for step in range(steps):
        progress.good_step(3.0 + 0.01 * (step % 3), 1.0 + 0.01 * (step % 3), window=100)
    return progress


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_bad_from_the_first_step_on(value: float) -> None:
    assert "loss" in str(problem(Health(), Progress(), value, 1.0))
    assert problem(Health(), Progress(), 1.0, value) == "gradient not finite"
    assert problem(Health(), Progress(), 1.0, 1.0) is None


def test_a_spike_is_a_loss_so_far_above_the_median() -> None:
    rules = Health(loss_spike=0.5)
    assert problem(rules, after(10), 3.5, 1.0) is None
    assert problem(rules, after(10), 3.52, 1.0) == "loss 3.520, the median is 3.010"
    assert problem(rules, after(9), 99.0, 1.0) is None
    assert problem(Health(), after(10), 99.0, 99.0) is None


def test_a_gradient_spike_is_a_multiple_of_the_median() -> None:
    rules = Health(gradient_spike=2)
    assert problem(rules, after(10), 99.0, 2.0) is None
    assert problem(rules, after(10), 3.0, 2.03) == "gradient norm 2.03, the median is 1.01"


def test_the_median_is_of_the_last_steps_of_the_window() -> None:
    progress = Progress()
    for step in range(30):
        progress.good_step(float(step), 1.0, window=10)
    assert progress.losses == [float(step) for step in range(20, 30)]


def test_progress_survives_a_checkpoint() -> None:
    progress = after(12)
    progress.passed_over = [[5, 9]]
    assert Progress.of({**progress.facts(), "data": "d", "files": {}}) == progress


def test_saves_are_as_far_apart_as_young_and_daly_compute() -> None:
    day = 86_400.0
    assert checkpoint_interval(0.5, 0.0, 0.0, 0) == pytest.approx(math.sqrt(2 * 0.5 * day))
    # Nine interruptions in nine days, and the one of the prior: one a day still.
    assert checkpoint_interval(0.5, 0.0, 9 * day, 9) == pytest.approx(math.sqrt(2 * 0.5 * day))
    # A save is in flight a tenth of the time at the most.
    assert checkpoint_interval(0.5, 100.0, 0.0, 0) == 1000.0


HANG = """
import sys, threading, time
from pathlib import Path
from kit.training.health import Watchdog

def wait_for_ever():
    threading.Event().wait()

watchdog = Watchdog(Path(sys.argv[1]), "job.0", 3, bound=0.2, first=20)
for _ in range(3):
    watchdog.begin("step 7")
    watchdog.step_ended(0.001)
watchdog.begin("step 8")
if sys.argv[2] == "hang":
    wait_for_ever()
watchdog.rest()
time.sleep(1)
print("left in peace")
"""


def start(note: Path, root: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HANG, str(note), how],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_step_without_end_leaves_its_stacks_and_ends_the_process(
    tmp_path: Path, root: Path
) -> None:
    done = start(tmp_path / "hang.json", root, "hang")
    assert done.returncode == 1
    assert "step 8 has not ended after" in done.stderr
    assert "in wait_for_ever" in done.stderr
    note = read_json(tmp_path / "hang.json")
    assert (note["job"], note["rank"], note["what"]) == ("job.0", 3, "step 8")


def test_what_ends_in_time_is_left_in_peace(tmp_path: Path, root: Path) -> None:
    done = start(tmp_path / "hang.json", root, "end")
    assert done.stdout == "left in peace\n"
    assert not (tmp_path / "hang.json").exists()
