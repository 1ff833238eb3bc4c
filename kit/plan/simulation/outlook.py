"""The figures of simulated runs as plain values: arrival, buckets, and the effect of other settings.

outlook.facts(found, 10_000, seed=0)     # `simulation` in the JSON of `jobs.plan --simulate --json`
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.errors import ConfigError
from kit.plan.buckets import BUCKETS, KEPT
from kit.plan.report import FAILURES
from kit.plan.simulation.attempt import FAILURE, LIMIT, PREEMPTION
from kit.plan.simulation.runs import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.plan.simulation.conditions import Conditions
    from kit.plan.simulation.draws import Floats
    from kit.plan.simulation.given import Given
    from kit.plan.simulation.runs import Outcome

    Facts = dict[str, Any]

QUANTILES = (0.05, 0.5, 0.95)
_BINS = 40  # of the histogram
_ENDS = {FAILURE: "failures", PREEMPTION: "preemptions", LIMIT: "time_limits"}


def facts(found: Given, runs: int, seed: int) -> Facts:
    """Simulate, and simulate again with other settings. Times are in seconds since the submission."""
    outcome = simulate(found.conditions, runs, seed)
    return {
        "runs": runs,
        "seed": seed,
        "inputs": dict(found.inputs),
        "arrival": _arrival(outcome),
        **_spent(outcome),
        "interruptions": {name: float(outcome.ends[kind].mean()) for kind, name in _ENDS.items()},
        "what_if": _what_if(found, outcome, seed),
    }


def _arrival(outcome: Outcome) -> Facts:
    """Quantiles, mean and histogram; null where runs do not arrive."""
    arrived = outcome.arrival[np.isfinite(outcome.arrival)]
    quantiles = np.quantile(outcome.arrival, QUANTILES, method="inverted_cdf")
    counts, edges = np.histogram(arrived, _BINS)
    bins = {"edges": [*map(float, edges)], "runs": [*map(int, counts)]}
    return {
        **dict(zip(("earliest", "median", "latest"), map(_finite, quantiles), strict=True)),
        "mean": _finite(outcome.arrival.mean()),
        "deviation": float(arrived.std()) if len(arrived) else None,
        "arrived": len(arrived) / len(outcome.arrival),
        "histogram": bins if len(arrived) else None,
    }


def _spent(outcome: Outcome) -> Facts:
    """Goodput, and the mean time in each bucket, as `watch --json` has them of a run."""
    means = {name: float(spent.mean()) for name, spent in outcome.seconds.items()}
    whole = sum(means.values())
    return {
        "goodput": outcome.goodput,
        "of_wall_clock": means[KEPT] / whole,
        "buckets": {
            name: {"seconds": means.get(name, 0.0), "share": means.get(name, 0.0) / whole}
            for name in BUCKETS
        },
    }


def _what_if(given: Given, outcome: Outcome, seed: int) -> list[Facts]:
    """The mean change of the arrival with each other setting, and its standard error."""
    found = []
    for setting, change, other in _others(given):
        try:
            arrival = simulate(other, len(outcome.arrival), seed).arrival
        except ConfigError:
            arrival = np.full_like(outcome.arrival, np.inf)
        found.append(
            {"setting": setting, "change": change, **_difference(arrival, outcome.arrival)}
        )
    return found


def _others(given: Given) -> Iterator[tuple[str, str, Conditions]]:
    conditions = given.conditions
    for name, factor in (("half", 0.5), ("double", 2.0)):
        yield "interval", name, replace(conditions, stretch=factor)
        yield "limit", name, replace(conditions, limit=factor * conditions.limit)
        yield "grace", name, replace(conditions, grace=factor * conditions.grace)
    usual, cautious = given.inputs["failures"]["value"], FAILURES["cautious"]
    if usual not in (0, cautious):
        failures = conditions.failures * cautious / usual
        yield "failures", "cautious", replace(conditions, failures=failures)


def _difference(arrival: Floats, before: Floats) -> Facts:
    """Paired by run: both met the same failures, preemptions and queue times."""
    both = np.isfinite(arrival) & np.isfinite(before)
    late = arrival[both] - before[both]
    arrived = float(np.isfinite(arrival).mean())
    if arrived < np.isfinite(before).mean() or len(late) < 2:
        return {"seconds": None, "error": None, "arrived": arrived}
    error = float(late.std(ddof=1)) / math.sqrt(len(late))
    return {"seconds": float(late.mean()), "error": error, "arrived": arrived}


def _finite(seconds: float) -> float | None:
    return float(seconds) if math.isfinite(seconds) else None
