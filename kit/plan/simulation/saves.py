"""Saves within an attempt: how far steps, saves and their commits have come after some time.

A cycle is `every` steps and the time for which a save blocks them. A save is committed at a step boundary
once it is written, as kit/training/checkpointer.py does it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kit.plan.interval import checkpoint_intervals

if TYPE_CHECKING:
    from kit.plan.simulation.conditions import Conditions
    from kit.plan.simulation.draws import Floats, Integers

_ROUNDING = 1e-7  # of a step


class Place(NamedTuple):
    """How far each attempt has come, in steps since its begin, fractions included."""

    steps: Floats
    blocked: Floats  # seconds for which saves blocked them
    begun: Floats  # saves
    begun_steps: Floats  # the steps in the newest one; 0: none has begun
    since: Floats  # seconds since it began
    committed_steps: Floats  # the steps in the newest one that is committed
    still_blocked: Floats  # seconds, where a save is blocking the steps


@dataclass(frozen=True)
class Saves:
    """The rhythm of the saves of each attempt."""

    every: Floats  # steps between two
    phase: Floats  # steps since the last one, at the attempt's begin
    step: float  # seconds, validation included
    blocked: float
    commit: float  # from the begin of a save to its commit, while steps go on

    @classmethod
    def of(cls, conditions: Conditions, done: Floats, trained: Floats, attempts: Floats) -> Saves:
        """The rhythm of attempts that begin at `done` steps; `trained` are seconds at their middle."""
        costs = conditions.costs
        step, blocked = costs.advance, costs.blocked
        writing = max(1.0, np.ceil((costs.writing - blocked) / step - _ROUNDING))  # steps
        phase = np.zeros_like(done)
        if conditions.every is not None:
            every = np.full_like(done, max(1, round(conditions.every * conditions.stretch)))
            phase = done % every
        else:
            seconds = conditions.stretch * _interval(conditions, trained, attempts)
            every = np.maximum(1.0, np.ceil((seconds - blocked) / step - _ROUNDING))
        apart = np.maximum(every, writing)  # a save begins once the one before is committed
        return cls(apart, phase + apart - every, step, blocked, blocked + writing * step)

    @property
    def cycle(self) -> Floats:
        """Seconds from save to save."""
        return self.every * self.step + self.blocked

    def where(self, rows: Integers) -> Saves:
        """That of some attempts."""
        return replace(self, every=self.every[rows], phase=self.phase[rows])

    def at(self, elapsed: Floats) -> Place:
        """At that time since the begin of the loop."""
        along = elapsed + self.phase * self.step
        whole = np.floor((along + _ROUNDING * self.step) / self.cycle)
        rest = np.maximum(0.0, along - whole * self.cycle)
        steps = whole * self.every + np.minimum(rest / self.step, self.every) - self.phase
        blocking = rest > (self.every + _ROUNDING) * self.step
        begun = whole + blocking
        written = along + self.blocked - self.commit + _ROUNDING * self.step
        committed = np.floor(written / self.cycle)
        return Place(
            steps,
            np.maximum(0.0, elapsed - steps * self.step),
            begun,
            self._steps_in(begun),
            along + self.blocked - begun * self.cycle,
            self._steps_in(committed),
            np.where(blocking, self.cycle - rest, 0.0),
        )

    def before(self, steps: Floats) -> Floats:
        """The number of saves that begin before that step of the attempt."""
        return np.floor((self.phase + steps - 1 + _ROUNDING) / self.every)

    def _steps_in(self, saves: Floats) -> Floats:
        return np.where(saves > 0, saves * self.every - self.phase, 0.0)


def _interval(conditions: Conditions, trained: Floats, attempts: Floats) -> Floats:
    if conditions.interval is not None:
        return np.full_like(trained, conditions.interval)
    costs = conditions.costs
    return checkpoint_intervals(costs.blocked, costs.writing, trained, attempts)
