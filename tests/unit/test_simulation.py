"""Simulated runs, against formulas, against a run played step by step, and against themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kit.errors import ConfigError
from kit.plan import buckets
from kit.plan.simulation.attempt import FAILURE, LIMIT, PREEMPTION, START
from kit.plan.simulation.conditions import DAY, Conditions, Costs, Queue
from kit.plan.simulation.draws import Draws
from kit.plan.simulation.runs import BUCKETS, simulate
from kit.watch.arrival import Planned, arrival
from kit.watch.pace import Pace
from tests.plain_simulation import play

HOUR = 3600.0
QUIET = Conditions(steps=6000, costs=Costs(step=1000.0, blocked=0.0, writing=0.0))  # 69.4 days
# Everything happens, often, in a short run.
BUSY = Conditions(
    steps=400,
    costs=Costs(
        60.0, 3.0, 40.0, 1.0, startup_import=50.0, startup_ranks=10.0, startup_load=90.0,
        startup_first_step=20.0, leaving=7.0, crash=25.0,
    ),
    failures=10.0,
    preemptions=20.0,
    queue=Queue(600.0),
    limit=2 * HOUR,
    warning=120.0,
    grace=90.0,
    every=10,
    micro_batches=4,
)  # fmt: skip


def ettr(
    failures: float, restart: float, interval: float, save: float, days: float = 70.0
) -> tuple[float, float]:
    """The formula, and the share of kept steps in simulated runs; failures a day, seconds."""
    rate = failures / DAY
    formula = (1 - rate * (restart + interval / 2)) / (1 + save / interval)
    costs = Costs(1.0, save, save, startup_load=restart)
    conditions = Conditions(int(days * DAY), costs, failures=failures, interval=interval + save)
    return formula, simulate(conditions, 400, seed=1).goodput


@pytest.mark.parametrize("nodes", [1, 8, 64])
@pytest.mark.parametrize("rate", [6.5, 23.7])  # per 1,000 node-days
@pytest.mark.parametrize("interval", [0.5, 2.0])  # hours
def test_goodput_is_metas_expected_ettr(nodes: int, rate: float, interval: float) -> None:
    """Equation 1 of arXiv 2410.21680, where interruptions are few."""
    formula, simulated = ettr(nodes * rate / 1000, 300.0, interval * HOUR, 20.0)
    assert simulated == pytest.approx(formula, rel=0.01)


@pytest.mark.parametrize("failures", [2.0, 20.0, 60.0])
def test_where_failures_are_many_goodput_is_the_exact_one_of_a_renewal_process(
    failures: float,
) -> None:
    """Daly 2006, equation 13: the expected time of a cycle is e^(rR) (e^(rC) - 1) / r."""
    restart, interval, save = 300.0, HOUR, 20.0
    rate = failures / DAY
    cycle = math.exp(rate * restart) * math.expm1(rate * (interval + save)) / rate
    formula, simulated = ettr(failures, restart, interval, save, days=60 / failures)
    assert simulated == pytest.approx(interval / cycle, rel=0.02)
    assert failures == 2 or abs(formula / simulated - 1) > 0.1  # beyond Meta's first order


@pytest.mark.parametrize(
    "conditions",
    [
        BUSY,
        replace(BUSY, grace=30.0),  # too short for a save
        replace(BUSY, grace=30.0, grace_known=False),
        replace(BUSY, grace=55.0, micro_batches=1),  # for some
        replace(BUSY, every=None, interval=600.0),
        replace(BUSY, every=1, costs=replace(BUSY.costs, writing=200.0)),  # a save takes some steps
        replace(BUSY, failures=0.0, preemptions=0.0, limit=0.5 * HOUR),
    ],
)  # fmt: skip
def test_a_run_is_the_one_that_is_played_step_by_step(conditions: Conditions) -> None:
    runs = 12
    outcome = simulate(conditions, runs, seed=3)
    for run in range(runs):
        arrives, spent = play(conditions, run, Draws(3))
        assert outcome.arrival[run] == pytest.approx(arrives, abs=1e-3)
        start = sum(outcome.seconds[name][run] for name in START)
        found = {name: float(seconds[run]) for name, seconds in outcome.seconds.items()}
        assert start == pytest.approx(spent["start"], abs=1e-3)
        for name in set(BUCKETS) - {*START}:
            assert found[name] == pytest.approx(spent[name], abs=1e-3), name


def test_the_interval_that_the_kit_computes_is_that_of_a_run_played_step_by_step() -> None:
    """It grows within an attempt, which a simulated one takes at its middle."""
    conditions = replace(BUSY, every=None, failures=3.0, preemptions=2.0, limit=DAY)
    played = [play(conditions, run, Draws(0))[1] for run in range(100)]
    outcome = simulate(conditions, 100)
    for name, near in (("saves", 0.02), ("redone_steps", 0.2)):
        mean = sum(one[name] for one in played) / 100
        assert outcome.seconds[name].mean() == pytest.approx(mean, rel=near), name


def test_every_second_is_in_a_bucket_that_watch_knows() -> None:
    outcome = simulate(BUSY, 200)
    assert set(BUCKETS) <= set(buckets.BUCKETS)
    assert sum(outcome.seconds.values()) == pytest.approx(outcome.arrival)
    assert outcome.seconds["kept_steps"] == pytest.approx(
        np.full(200, BUSY.steps * BUSY.costs.step)
    )
    assert all((seconds >= -1e-6).all() for seconds in outcome.seconds.values())
    assert all(outcome.ends[kind].sum() > 100 for kind in (FAILURE, PREEMPTION, LIMIT))


def test_a_quiet_run_takes_its_steps() -> None:
    outcome = simulate(QUIET, 3)
    assert outcome.arrival == pytest.approx([6e6] * 3)
    assert outcome.goodput == 1.0


def test_interruptions_come_as_often_as_they_are_to() -> None:
    outcome = simulate(replace(QUIET, failures=0.1, preemptions=1.5), 2000)
    days = outcome.held.mean() / DAY
    assert outcome.ends[FAILURE].mean() == pytest.approx(0.1 * days, rel=0.03)
    assert outcome.ends[PREEMPTION].mean() == pytest.approx(1.5 * days, rel=0.01)


@pytest.mark.parametrize(
    ("queue", "mean", "deviation"),
    [
        (Queue(600.0), 600.0, 600.0),
        (Queue(600.0, 300.0), 600.0, 300.0),
        (Queue(600.0, 1200.0), 600.0, 1200.0),
        (Queue(observed=(60.0, 120.0, 600.0)), 260.0, math.sqrt(56_800)),
    ],
)
def test_waits_have_the_mean_and_the_deviation_that_they_are_to(
    queue: Queue, mean: float, deviation: float
) -> None:
    runs, numbers = (one.ravel() for one in np.meshgrid(np.arange(1000), np.arange(100)))
    waits = queue.waits(Draws(5), runs, numbers)
    assert queue.expected == mean
    assert waits.mean() == pytest.approx(mean, rel=0.02)
    assert waits.std() == pytest.approx(deviation, rel=0.05)


def test_a_seed_gives_the_same_runs_and_another_seed_others() -> None:
    first, again, other = (simulate(BUSY, 50, seed).arrival for seed in (0, 0, 1))
    assert (first == again).all()
    assert not (first == other).any()
    assert (simulate(BUSY, 20).arrival == first[:20]).all()  # the first runs of more


def test_draws_are_uniform_and_know_nothing_of_one_another() -> None:
    runs, numbers = (one.ravel() for one in np.meshgrid(np.arange(500), np.arange(400)))
    one, other = (Draws(2).uniform(name, runs, numbers) for name in ("one", "other"))
    counts, _ = np.histogram(one, 100, (0.0, 1.0))
    expected = len(one) / 100
    assert ((counts - expected) ** 2 / expected).sum() < 149  # chi-squared, 99 degrees, p = 0.001
    table = one.reshape(400, 500)
    pairs = (
        (one, other), (one[1:], one[:-1]), (table[1:].ravel(), table[:-1].ravel()),
        (one, Draws(3).uniform("one", runs, numbers)),
    )  # fmt: skip
    for left, right in pairs:
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / math.sqrt(len(left))


def test_two_settings_meet_the_same_interruptions() -> None:
    """So that their difference is known better than either of them."""
    conditions = replace(BUSY, limit=math.inf)
    one = simulate(conditions, 500)
    other = simulate(replace(conditions, stretch=2.0), 500)
    difference = other.arrival - one.arrival
    unpaired = math.hypot(one.arrival.std(), other.arrival.std())
    assert difference.std() < unpaired / 2


def test_a_run_that_loses_all_that_it_does_does_not_arrive() -> None:
    hopeless = replace(BUSY, steps=20, grace=1.0, preemptions=5000.0)
    outcome = simulate(hopeless, 5)
    assert np.isinf(outcome.arrival).all()


def test_a_limit_that_leaves_no_time_for_a_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.training\.minutes=6: .* raise it"):
        simulate(replace(BUSY, limit=360.0), 5)


def test_watch_forecasts_the_same_run_alike() -> None:
    """It draws whole delays, where a simulation plays their parts: mean against mean."""
    conditions = replace(
        BUSY, steps=20_000, failures=0.0, preemptions=1.0, limit=math.inf, every=60
    )
    outcome = simulate(conditions, 2000)
    costs = conditions.costs
    delay = costs.start + costs.writing + costs.leaving + conditions.queue.mean
    seen = Pace(costs.advance, 0.0, 20, 1000 * DAY, 1000, 0, (delay,) * 1000, waited=None)
    forecast = arrival(seen, conditions.steps, 0.0, Planned())
    assert forecast is not None
    assert forecast.median == pytest.approx(float(np.median(outcome.arrival)), rel=0.005)
