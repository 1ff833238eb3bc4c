"""Many runs at once, attempt by attempt, until all have arrived.

    outcome = simulate(conditions, 10_000, seed=0)
    np.quantile(outcome.arrival, [0.05, 0.5, 0.95]), outcome.goodput

Failures and preemptions are Poisson processes over the time for which nodes are held; number k of a run is
the same in every simulation of that seed (kit/plan/simulation/draws.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kit.errors import ConfigError
from kit.output.quantities import duration
from kit.plan.buckets import KEPT
from kit.plan.simulation import attempt
from kit.plan.simulation.attempt import DONE, FAILURE, LIMIT, PREEMPTION, Begin
from kit.plan.simulation.conditions import DAY, EARLY
from kit.plan.simulation.draws import Draws

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kit.plan.simulation.attempt import Played
    from kit.plan.simulation.conditions import Conditions
    from kit.plan.simulation.draws import Floats, Integers

_PATIENCE = 20.0  # times the undisturbed run and its queue: a run that takes longer does not arrive
QUEUE = "queue"
BUCKETS = (*attempt.BUCKETS, QUEUE)


@dataclass(frozen=True)
class Outcome:
    """The runs, one value for each."""

    arrival: Floats  # seconds from the first submission to the end; infinite: it does not arrive
    seconds: dict[str, Floats]  # by bucket: they add up to the arrival
    ends: dict[int, Integers]  # number of failures, preemptions and time limits

    @property
    def held(self) -> Floats:
        """Seconds for which nodes were held."""
        seconds = np.zeros(len(self.arrival))
        for name in attempt.BUCKETS:
            seconds += self.seconds[name]
        return seconds

    @property
    def goodput(self) -> float:
        """Kept steps over held time, of all runs together: Meta's E[ETTR]."""
        return float(self.seconds[KEPT].sum() / self.held.sum())


def simulate(conditions: Conditions, runs: int, seed: int = 0) -> Outcome:
    """Play a number of runs. Raises ConfigError if no attempt can do a step within its time limit."""
    if conditions.useful < conditions.costs.advance:
        raise ConfigError(
            f"cluster.training.minutes={conditions.limit / 60:g}: an attempt starts for "
            f"{duration(conditions.costs.start)} and leaves {duration(conditions.ahead)} ahead of its time "
            "limit: no time for a step; raise it"
        )
    state = _State(conditions, runs, Draws(seed))
    horizon = _PATIENCE * (conditions.undisturbed + conditions.queue.expected)
    while len(rows := np.flatnonzero(~state.arrived & (state.clock < horizon))):
        state.play(rows)
    return Outcome(
        np.where(state.arrived, state.clock, np.inf),
        dict(zip(BUCKETS, state.seconds, strict=True)),
        state.ends,
    )


@dataclass
class _State:
    """The state of all runs between two attempts."""

    conditions: Conditions
    runs: int
    draws: Draws
    clock: Floats = field(init=False)  # seconds since the first submission
    arrived: NDArray[np.bool_] = field(init=False)
    _ordinals: dict[int, Integers] = field(init=False, default_factory=dict)  # of the next draws

    def __post_init__(self) -> None:
        runs = self.runs
        self.clock, self.done, self.trained = (np.zeros(runs) for _ in range(3))
        self.arrived = np.zeros(runs, np.bool_)
        self.attempts = np.zeros(runs, np.int64)
        self.seconds = np.zeros((len(BUCKETS), runs))
        self.ends = {kind: np.zeros(runs, np.int64) for kind in (FAILURE, PREEMPTION, LIMIT)}
        every = np.arange(runs)
        # Held seconds until the next one.
        self.next = {kind: self._between(kind, every) for kind in (FAILURE, PREEMPTION)}

    def play(self, rows: Integers) -> None:
        """Play the next attempt of some runs, after its time in the queue."""
        numbers = self.attempts[rows]
        waits = self.conditions.queue.waits(self.draws, rows, numbers)
        begin = Begin(
            self.done[rows],
            self.trained[rows],
            numbers.astype(np.float64),
            self.next[FAILURE][rows],
            self.next[PREEMPTION][rows],
            EARLY * self.draws.uniform("early", rows, numbers),
        )
        self._add(rows, attempt.play(self.conditions, begin), waits)

    def _add(self, rows: Integers, played: Played, waits: Floats) -> None:
        held = played.seconds.sum(axis=0)
        self.clock[rows] += waits + held
        self.seconds[:-1, rows] += played.seconds
        self.seconds[-1, rows] += waits
        self.done[rows] += played.kept
        self.trained[rows] += played.trained
        self.attempts[rows] += 1
        self.arrived[rows] = played.end == DONE
        for kind, counted in self.ends.items():
            counted[rows] += played.end == kind
        for kind, left in self.next.items():
            # Of one that would have come while an attempt ended for another reason, the next is drawn.
            left[rows] -= held
            due = rows[(played.end == kind) | (left[rows] <= 0)]
            left[due] = self._between(kind, due)

    def _between(self, kind: int, rows: Integers) -> Floats:
        rate = self.conditions.failures if kind == FAILURE else self.conditions.preemptions
        if rate == 0:
            return np.full(len(rows), np.inf)
        name = "failures" if kind == FAILURE else "preemptions"
        ordinal = self._ordinals.setdefault(kind, np.zeros(self.runs, np.int64))
        drawn = self.draws.exponential(name, rows, ordinal[rows])
        ordinal[rows] += 1
        return drawn * DAY / rate
