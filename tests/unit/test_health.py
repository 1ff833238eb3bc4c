"""The health of a run: bad steps, and hangs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from kit.config.recipe import Health
from kit.training import health
from kit.training.health import Watchdog, problem
from kit.training.progress import Progress
from kit.training.running_clock import RunningClock

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


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Guarded:
    """What the process beside the rank is sent."""

    def __init__(self) -> None:
        self.allowed: list[float] = []

    def allow(self, seconds: float) -> None:
        self.allowed.append(round(seconds, 6))

    def close(self) -> None: ...


class Watched:
    """A watchdog whose clock and whose ticks are the test's."""

    def __init__(self, folder: Path, bound: float, first: float) -> None:
        self.clock, self.ended = Clock(), list[float]()
        self.dog = Watchdog(folder / "hang.json", "job.0", 0, bound=bound, first=first)
        self.dog._quiet.set()  # its own thread looks no more
        self.dog.clock = RunningClock(1.0, self.clock)
        self.dog._began = self.dog.clock.now()
        self.dog._end = self.ended.append  # type: ignore[method-assign]

    def run(self, seconds: int) -> bool:
        """Let the process run; returns whether a hang was seen."""
        for _ in range(seconds):
            self.clock.time += 1.0
            self.dog.look()
        return bool(self.ended)

    def stop(self, seconds: float) -> None:
        """Stop the process, as SIGSTOP does, and let it run again."""
        self.clock.time += seconds


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    made = Guarded()
    monkeypatch.setattr(health, "LastResort", lambda: made)
    return made


def test_a_step_hangs_after_ten_times_the_median(tmp_path: Path, guarded: Guarded) -> None:
    watched = Watched(tmp_path, bound=1.0, first=500.0)
    for seconds in (2.0, 3.0, 4.0, 100.0):
        watched.dog.step_ended(seconds)
    watched.dog.begin("step 5")
    assert not watched.run(35)
    assert watched.run(1)
    assert watched.ended == [36.0]
    assert guarded.allowed[-1] == -1.0


def test_a_step_has_the_bound_at_the_least(tmp_path: Path, guarded: Guarded) -> None:
    watched = Watched(tmp_path, bound=50.0, first=500.0)
    watched.dog.step_ended(2.0)
    watched.dog.begin("step 2")
    assert not watched.run(50)
    assert watched.run(1)


def test_what_takes_longer_than_a_step_is_given_ten_times_its_own_time(
    tmp_path: Path, guarded: Guarded
) -> None:
    watched = Watched(tmp_path, bound=1.0, first=500.0)
    watched.dog.step_ended(0.5)
    for what, seconds, allowed in (
        ("validation", 7.0, 70.0),
        ("save", 0.25, 5.0),
        ("step", 0.0, 5.0),
    ):
        watched.dog.begin(what, seconds)
        watched.dog.look()
        assert guarded.allowed[-1] == allowed


def test_until_a_step_has_ended_the_first_one_has_the_time_of_a_start(
    tmp_path: Path, guarded: Guarded
) -> None:
    watched = Watched(tmp_path, bound=1.0, first=500.0)
    watched.dog.begin("step 1")
    watched.dog.look()
    assert guarded.allowed == [500.0, 500.0]


def test_the_median_is_of_the_last_hundred_steps(tmp_path: Path, guarded: Guarded) -> None:
    watched = Watched(tmp_path, bound=1.0, first=500.0)
    for seconds in [50.0] * 300 + [2.0] * 50:
        watched.dog.step_ended(seconds)
    watched.dog.begin("step 351")
    watched.dog.look()
    assert guarded.allowed[-1] == 10 * 26.0  # of fifty steps of each kind


def test_time_in_which_the_process_was_stopped_is_no_hang(
    tmp_path: Path,
    guarded: Guarded,
) -> None:
    watched = Watched(tmp_path, bound=30.0, first=500.0)
    watched.dog.step_ended(1.0)
    watched.dog.begin("step 2")
    assert not watched.run(10)
    for _ in range(3):
        watched.stop(86_400.0)
        assert not watched.run(1)
    assert not watched.run(8)  # of each stop four ticks count
    assert watched.run(1)


def test_the_clock_of_a_process_runs_while_it_does() -> None:
    clock = Clock()
    running = RunningClock(1.0, clock)
    began = running.now()
    for _ in range(100):
        clock.time += 1.5  # a beat may be late
        running.beat()
    assert running.now() - began == 150.0
    clock.time += 5000.0
    assert 150.0 < (stopped := running.now() - began) < 155.0
    running.beat()
    clock.time += 1.0
    assert running.now() - began == stopped + 1.0
