"""Everything that a simulated run depends on. Seconds, and rates per day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.plan.simulation.draws import Draws, Floats, Integers

DAY = 86_400.0
# Slurm 22.05 looks at time limits every 30 s, and sends the signal of --signal up to so much earlier.
EARLY = 30.0
_EXIT = 5.0  # to end the ranks: `_EXIT_SECONDS` of kit/training/loop.py


@dataclass(frozen=True)
class Costs:
    """Seconds that the parts of an attempt take."""

    step: float
    blocked: float  # a save blocks training
    writing: float  # from the begin of a save until it is written
    validation: float = 0.0  # of a step: a validation's time over the steps between two
    # Parts of a start, in this order. The first step: beyond a usual one.
    startup_import: float = 0.0
    startup_ranks: float = 0.0
    startup_load: float = 0.0
    startup_first_step: float = 0.0
    leaving: float = 0.0  # from the last save, or the last step, until the job has ended
    crash: float = 0.0  # from a failure until the job has ended

    @property
    def advance(self) -> float:
        """A step with its share of validation."""
        return self.step + self.validation

    @property
    def start(self) -> float:
        """From the start of the job to the first step."""
        return (
            self.startup_import + self.startup_ranks + self.startup_load + self.startup_first_step
        )


@dataclass(frozen=True)
class Queue:
    """The time that a job waits before each attempt: exponential, lognormal, or one of those observed."""

    mean: float = 0.0
    deviation: float | None = None  # standard deviation, of a lognormal one; None: exponential
    observed: Sequence[float] = ()

    def waits(self, draws: Draws, runs: Integers, numbers: Integers) -> Floats:
        """The wait before each attempt of that number."""
        if self.observed:
            places = draws.uniform("queue", runs, numbers) * len(self.observed)
            return np.asarray(self.observed, np.float64)[places.astype(np.int64)]
        if self.deviation is None or self.mean == 0:
            return self.mean * draws.exponential("queue", runs, numbers)
        variance = math.log1p((self.deviation / self.mean) ** 2)  # of the logarithm
        centre = math.log(self.mean) - variance / 2
        return np.exp(centre + math.sqrt(variance) * draws.normal("queue", runs, numbers))

    @property
    def expected(self) -> float:
        """The mean wait."""
        return sum(self.observed) / len(self.observed) if self.observed else self.mean

    @property
    def words(self) -> str:
        """The distribution as a reader knows it."""
        if self.observed:
            return f"drawn from {len(self.observed):,} observed"
        return "exponential" if self.deviation is None else "lognormal"


@dataclass(frozen=True)
class Conditions:
    """The run, its costs, and what befalls it."""

    steps: int
    costs: Costs
    failures: float = 0.0  # per day for which the nodes are held, of all nodes together
    preemptions: float = 0.0  # per day for which the nodes are held
    queue: Queue = Queue()
    limit: float = math.inf  # of an attempt
    warning: float = 0.0  # before the limit
    grace: float = math.inf  # of a preemption
    grace_known: bool = True  # a run that knows it begins no save that is too long
    every: int | None = None  # steps between two saves; None: by time
    interval: float | None = None  # between two saves, by time; None: as the kit computes it
    stretch: float = 1.0  # times the interval that the kit would choose
    micro_batches: int = 1  # of a step: a run leaves between two

    @property
    def lead(self) -> float:
        """Seconds before the time limit at which the loop leaves by its own clock.

        As `_seconds_to_leave` of kit/training/loop.py.
        """
        return 1.5 * self.costs.writing + 2.0 * self.costs.step + _EXIT

    @property
    def ahead(self) -> float:
        """Seconds before the time limit at which it leaves at the latest."""
        return max(self.lead, self.warning)

    @property
    def useful(self) -> float:
        """Seconds of an attempt between its start-up and the latest moment at which it leaves."""
        return self.limit - self.ahead - self.costs.start

    @property
    def undisturbed(self) -> float:
        """Seconds of all steps and one start, without a save, an interruption or a queue."""
        return self.costs.start + self.steps * self.costs.advance
