"""When a run arrives: the interval holds the true date of simulated runs as often as it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytest

from kit.watch.arrival import Arrival, Planned, arrival
from kit.watch.history import AttemptTimes, History
from kit.watch.pace import Pace, pace

DAY = 86_400.0
HOUR, STEP = 3600.0, 10.0
FRESH = Pace(None, 0.0, 0, 0.0, 0, 0, (), waited=0.0)


class Draws(Protocol):
    """Delays of simulated runs, with a mean of 1."""

    def __call__(
        self, random: np.random.Generator, shape: tuple[int, int]
    ) -> np.ndarray[Any, np.dtype[np.float64]]: ...


def exponential(
    random: np.random.Generator, shape: tuple[int, int]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    return random.exponential(1.0, shape)


def uneven(
    random: np.random.Generator, shape: tuple[int, int]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mostly short, sometimes very long: the coefficient of variation is 1.8."""
    return random.lognormal(-0.72, 1.2, shape)


def holds(arrives: Arrival | None, truth: float) -> bool:
    assert arrives is not None
    return arrives.earliest <= truth <= arrives.latest


def attempt(
    number: int, begin: float, steps: int, reason: str | None, kept: int | None = None
) -> AttemptTimes:
    """Steps of ten seconds, of which the first `kept` are kept."""
    ended = begin + STEP * np.arange(1, steps + 1)
    decision = reason and {
        "time": float(ended[-1]) + 5, "job": f"17.{number}", "name": "train", "requeued": True,
        "reason": reason, "progress": [0, 0],
    }  # fmt: skip
    return AttemptTimes(
        number, 1, begin - 60, None, begin - 60, None, 0, begin, np.arange(steps), ended,
        np.full(steps, STEP),
        np.arange(steps) < (steps if kept is None else kept), np.empty((0, 2)), np.empty((0, 3)),
        None, None, None, decision or None, float(ended[-1]),  # type: ignore[arg-type]
    )  # fmt: skip


def coverage(runs: int, delay: float, delays: Draws, days: tuple[int, ...]) -> list[float]:
    """The share of simulated runs whose interval holds the true date, by the day of the forecast.

    Each run has a rate of preemption of its own, about one a day, and a mean delay of its own, about
    `delay` seconds; `delays` draws single delays, with a mean of 1.
    """
    random = np.random.default_rng(1)
    between = DAY / random.lognormal(0.0, 0.6, (runs, 1))
    costs = random.lognormal(np.log(delay), 0.7, (runs, 1))
    up = random.exponential(1.0, (runs, 400)) * between
    down = delays(random, (runs, 400)) * costs
    whole = random.uniform(20, 60, (runs, 1)) * DAY  # of doing steps
    done = np.cumsum(up, axis=1) - up  # before each stretch
    begins = np.cumsum(up + down, axis=1) - up - down
    last = (done < whole).sum(axis=1) - 1
    rows = np.arange(runs)
    truth = begins[rows, last] + whole[:, 0] - done[rows, last]
    shares = []
    for now in (day * DAY for day in days):
        held = []
        for run in np.flatnonzero(truth > now):
            here = int((begins[run] <= now).sum()) - 1
            within = min(now - begins[run, here], up[run, here])
            waiting = bool(within == up[run, here])
            waited = now - begins[run, here] - within if waiting else None
            advanced = done[run, here] + within
            seen = Pace(STEP, 0.002, 20, advanced, here + waiting, 0, down[run, :here], waited)
            left = round((whole[run, 0] - advanced) / STEP)
            held.append(holds(arrival(seen, left, now, seed=int(run)), truth[run]))
        shares.append(float(np.mean(held)))
    return shares


def test_the_interval_holds_the_true_date_in_85_to_95_percent_of_simulated_runs() -> None:
    shares = coverage(1000, HOUR, exponential, (3, 7, 14, 28))
    assert all(0.85 <= share <= 0.95 for share in shares), shares


def test_where_delays_are_long_and_uneven_it_is_too_narrow_at_first() -> None:
    """As docs/watching.md says."""
    early, late = coverage(1000, 6 * HOUR, uneven, (3, 28))
    assert 0.75 <= early < 0.85 < late


def test_before_the_first_step_the_planned_figures_stand_in() -> None:
    assert arrival(FRESH, 100, 0.0) is None
    planned = arrival(FRESH, 86_400, 0.0, Planned(seconds_a_step=10.0))
    assert planned is not None
    assert not planned.measured
    assert planned.earliest < 10 * DAY < planned.median < planned.latest < 20 * DAY


def test_a_forecast_is_the_same_each_time_it_is_asked_for() -> None:
    seen = Pace(STEP, 0.01, 20, DAY, 2, 0, (600.0, 900.0), waited=None)
    assert arrival(seen, 1000, 0.0) == arrival(seen, 1000, 0.0)
    assert arrival(seen, 1000, 0.0) != arrival(seen, 1000, 0.0, seed=1)


def test_time_limits_are_counted_as_planned_until_the_first_is_due() -> None:
    planned = Planned(limit=DAY, delay=3600.0)
    seen = Pace(STEP, 0.0, 20, 0.5 * DAY, 0, 0, (3600.0,) * 50, waited=None)
    never = arrival(seen, 86_400, 0.0, replace(planned, limit=None))
    daily = arrival(seen, 86_400, 0.0, planned)
    assert never is not None
    assert daily is not None
    assert daily.median - never.median == pytest.approx(10 * 3600, rel=0.3)


def test_the_pace_is_that_of_kept_steps_and_a_delay_what_lies_between_them() -> None:
    past = History(
        [
            attempt(1, 1000, 20, "preemption", kept=15),  # to 1150, 5 steps are lost
            attempt(2, 3000, 10, "time limit"),  # to 3100
            attempt(3, 3400, 10, "cancelled"),  # to 3500
            attempt(4, 9000, 20, None),
        ],
        STEP,
    )
    past.attempts[2].decision["requeued"] = False  # type: ignore[index]
    seen = pace(past, 9300)
    assert seen.seconds_a_step == pytest.approx(STEP)
    assert seen.error == pytest.approx(0, abs=1e-9)
    assert (seen.interruptions, seen.limits) == (1, 1)
    assert [*seen.delays] == [3000 - 1150, 3400 - 3100]
    assert seen.advancing == pytest.approx(150 + 100 + 100 + 200)
    assert seen.waited is None


def test_only_the_last_week_counts_if_it_is_to() -> None:
    past = History(
        [
            attempt(1, 1000, 20, "preemption"),
            attempt(2, 5000, 20, "preemption"),
            attempt(3, 30 * DAY, 20, "preemption"),
        ],
        STEP,
    )
    seen = pace(past, 30 * DAY + 400, over=7 * DAY)
    assert (seen.interruptions, [*seen.delays]) == (1, [])
    assert seen.advancing == pytest.approx(200)
    assert seen.waited == pytest.approx(400 - 200)


def test_a_run_without_an_attempt_has_no_pace() -> None:
    assert pace(History([], None), 0.0) == replace(FRESH, delays=[])
