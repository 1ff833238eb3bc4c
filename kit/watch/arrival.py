"""When a run arrives: a date and a 90% interval, from its own steps and interruptions.

    arrival(pace(past, now), left=120_000, now=now, planned=Planned(seconds_a_step=12.0))

Method: 1,000 draws from the posterior predictive distribution of the remaining time (Gelman et al.,
Bayesian Data Analysis, 3rd ed. 2013, sections 1.3 and 2.6).

- Steps: their mean with Student's t, of means of blocks of consecutive steps.
- Interruptions: a Poisson process over the time in which steps are done. Its rate has a Gamma posterior;
  the conjugate prior is worth one interruption at the planned rate (one a day, as for the checkpoint
  interval).
- Time limits: evenly spaced, as often as they were so far, or as planned until the first is due.
- Delays: the sum over n interruptions is Gamma. Its coefficient of variation is that of the delays
  observed, shrunk towards an exponential's by two observations. The mean is inverse Gamma, as an
  exponential's posterior is: a delay in progress counts with its time, as a censored one; the planned delay
  counts as one observation before there are others, then as a quarter of one.

The date is the median of the draws, the interval their 5% and 95% quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kit.watch.pace import Pace

    Draws = NDArray[np.float64]

DRAWS = 1000
_DAY = 86_400.0
_PLANNED_WEIGHT = 0.25  # of the planned delay, in observations, once there are any
_UNMEASURED = 0.1  # standard error of a planned step, as a share of it


@dataclass(frozen=True)
class Planned:
    """Figures that stand in until the run has its own."""

    seconds_a_step: float | None = None
    interruptions_a_day: float = 1.0
    delay: float = 1800.0  # seconds that an interruption costs
    limit: float | None = None  # seconds of the time limit of an attempt


@dataclass(frozen=True)
class Arrival:
    """Unix times."""

    median: float
    earliest: float  # with 90% of the draws between it and the latest
    latest: float
    measured: bool  # from steps of the run, not from planned ones

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "date": self.median,
            "earliest": self.earliest,
            "latest": self.latest,
            "measured": self.measured,
        }


def arrival(
    pace: Pace, left: int, now: float, planned: Planned | None = None, seed: int = 0
) -> Arrival | None:
    """Forecast the end of the last of `left` steps; None before any step if none is planned."""
    planned = planned or Planned()
    random = np.random.default_rng(seed)
    seconds = _seconds_a_step(pace, planned, random)
    if seconds is None:
        return None
    advancing = left * seconds
    number = _interruptions(pace, planned, advancing, random) + _limits(
        pace, planned, advancing, random
    )
    total = advancing + _delays(pace, planned, number + (pace.waited is not None), random)
    earliest, median, latest = (now + float(one) for one in np.quantile(total, (0.05, 0.5, 0.95)))
    return Arrival(median, earliest, latest, pace.seconds_a_step is not None)


def _seconds_a_step(pace: Pace, planned: Planned, random: np.random.Generator) -> Draws | None:
    if pace.seconds_a_step is None:
        if planned.seconds_a_step is None:
            return None
        deviation = _UNMEASURED * random.standard_normal(DRAWS)
        return planned.seconds_a_step * np.maximum(0.1, 1 + deviation)
    if pace.blocks < 2:
        return np.full(DRAWS, pace.seconds_a_step)
    deviation = pace.error * random.standard_t(pace.blocks - 1, DRAWS)
    return pace.seconds_a_step * np.maximum(0.1, 1 + deviation)


def _interruptions(
    pace: Pace, planned: Planned, advancing: Draws, random: np.random.Generator
) -> Draws:
    exposure = pace.advancing + _DAY / planned.interruptions_a_day
    rate = random.gamma(1 + pace.interruptions, 1 / exposure, DRAWS)
    return random.poisson(rate * advancing).astype(np.float64)


def _limits(pace: Pace, planned: Planned, advancing: Draws, random: np.random.Generator) -> Draws:
    rate = pace.limits / pace.advancing if pace.advancing else 0.0
    if planned.limit and pace.advancing < planned.limit:
        rate = 1 / planned.limit
    return np.floor(rate * advancing + random.random(DRAWS))


def _delays(pace: Pace, planned: Planned, number: Draws, random: np.random.Generator) -> Draws:
    """The sum of that number of delays."""
    observed = np.array(pace.delays, np.float64)
    weight = _PLANNED_WEIGHT if len(observed) else 1.0
    count = len(observed) + weight
    mean = (observed.sum() + (pace.waited or 0.0) + weight * planned.delay) / count
    many = len(observed) > 1
    spread = float(observed.var(ddof=1) / max(observed.mean(), 1e-9) ** 2) if many else 1.0
    variation = (len(observed) * spread + 2.0) / (len(observed) + 2.0)  # squared
    shape = count / variation
    means = mean / np.maximum(random.gamma(shape, 1 / shape, DRAWS), 1e-9)
    some = number > 0
    sums = random.gamma(np.where(some, number, 1.0) / variation, means * variation)
    return np.where(some, sums, 0.0)
