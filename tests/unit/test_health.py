"""The health of a run: what is a bad step, and after what time a step is taken to hang."""

from __future__ import annotations

import faulthandler
import math
from typing import TYPE_CHECKING

import pytest

from kit.config.recipe import Health
from kit.training.health import Watchdog, problem
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
        progress.good_step(float(step), float(-step), window=10)
    assert progress.losses == [float(step) for step in range(20, 30)]
    assert progress.gradient_norms == [float(-step) for step in range(20, 30)]


def test_a_run_begins_with_nothing_done() -> None:
    assert Progress().record() == {
        "step": 0,
        "sample": 0,
        "passed_over": [],
        "validated": -1,  # step 0 is still to be validated
        "losses": [],
        "gradient_norms": [],
        "bad_steps": 0,
        "trained": 0.0,
        "blocked": 0.0,
        "slowest_save": 0.0,
    }


def test_progress_survives_a_checkpoint() -> None:
    progress = after(12)
    progress.passed_over = [[5, 9]]
    assert Progress.from_record({**progress.record(), "data": "d", "files": {}}) == progress


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds after which the interpreter was told to end this process, one after the other."""
    told: list[float] = []

    def later(timeout: float, *, exit: bool) -> None:  # noqa: A002  faulthandler's own name
        assert exit
        told.append(timeout)

    monkeypatch.setattr(faulthandler, "dump_traceback_later", later)
    return told


def watchdog(folder: Path, bound: float, first: float = 500.0) -> Watchdog:
    return Watchdog(folder / "hang.json", "job.0", 0, bound=bound, first=first)


def test_a_step_hangs_after_ten_times_the_median(tmp_path: Path, deadlines: list[float]) -> None:
    watch = watchdog(tmp_path, bound=1.0)
    for seconds in (2.0, 3.0, 4.0, 100.0):
        watch.step_ended(seconds)
    watch.begin("step 5")
    watch.disarm()
    # The interpreter itself ends the process a minute later, where a thread holds its lock.
    assert deadlines == [500.0 + 60.0, 10 * 3.5 + 60.0]


def test_a_step_has_the_bound_at_the_least(tmp_path: Path, deadlines: list[float]) -> None:
    watch = watchdog(tmp_path, bound=50.0)
    watch.step_ended(2.0)
    watch.begin("step 2")
    watch.disarm()
    assert deadlines[-1] == 50.0 + 60.0


def test_what_takes_longer_than_a_step_is_given_ten_times_its_own_time(
    tmp_path: Path, deadlines: list[float]
) -> None:
    watch = watchdog(tmp_path, bound=1.0)
    watch.step_ended(0.5)
    watch.begin("validation", seconds=7.0)
    watch.begin("save", seconds=0.25)
    watch.begin("step 2")
    watch.disarm()
    assert deadlines[1:] == [10 * 7.0 + 60.0, 10 * 0.5 + 60.0, 10 * 0.5 + 60.0]


def test_until_a_step_has_ended_the_first_one_has_the_time_of_a_start(
    tmp_path: Path, deadlines: list[float]
) -> None:
    watch = watchdog(tmp_path, bound=1.0)
    watch.begin("step 1")
    watch.disarm()
    assert deadlines == [560.0, 560.0]


def test_the_median_is_of_the_last_hundred_steps(tmp_path: Path, deadlines: list[float]) -> None:
    watch = watchdog(tmp_path, bound=1.0)
    for seconds in [50.0] * 300 + [2.0] * 50:
        watch.step_ended(seconds)
    watch.begin("step 351")
    watch.disarm()
    assert deadlines[-1] == 10 * 26.0 + 60.0  # of fifty steps of each kind
