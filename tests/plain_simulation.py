"""One simulated run, step by step in plain Python, as the training loop goes through it.

arrival, buckets = play(conditions, run=0, draws=Draws(0))

The oracle of kit/plan/simulation, which computes where a cycle of saves ends instead of walking there, and
its peer in tests/benchmarks/cluster.py.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kit.plan.interval import checkpoint_interval
from kit.plan.simulation.conditions import DAY, EARLY

if TYPE_CHECKING:
    from kit.plan.simulation.conditions import Conditions
    from kit.plan.simulation.draws import Draws


class Events:
    """A Poisson process over held time, by the numbers of a run."""

    def __init__(self, draws: Draws, name: str, run: int, rate: float) -> None:
        self._draws, self._name, self._run, self._rate, self._number = draws, name, run, rate, 0
        self.left = self._drawn()

    def hold(self, seconds: float, *, met: bool) -> None:
        """Nodes were held for some time; the next event is drawn if it came."""
        self.left -= seconds
        if met or self.left <= 0:
            self.left = self._drawn()

    def _drawn(self) -> float:
        if self._rate == 0:
            return math.inf
        one = self._draws.exponential(self._name, np.array([self._run]), np.array([self._number]))
        self._number += 1
        return float(one[0]) * DAY / self._rate


@dataclass
class Attempt:
    """What an attempt came to."""

    end: str
    held: float
    kept: int
    trained: float
    buckets: Counter[str]


def play(conditions: Conditions, run: int, draws: Draws) -> tuple[float, Counter[str]]:
    """The seconds until a run arrives, and its buckets."""
    failures = Events(draws, "failures", run, conditions.failures)
    preemptions = Events(draws, "preemptions", run, conditions.preemptions)
    done, number, clock, trained = 0, 0, 0.0, 0.0
    buckets: Counter[str] = Counter()
    while True:
        one, attempt = np.array([run]), np.array([number])
        wait = float(conditions.queue.waits(draws, one, attempt)[0])
        early = EARLY * float(draws.uniform("early", one, attempt)[0])
        leaves = conditions.limit - max(conditions.lead, conditions.warning + early)
        played = _attempt(
            conditions, done, trained, number, failures.left, preemptions.left, leaves
        )
        clock += wait + played.held
        buckets += played.buckets + Counter({"queue": wait})
        done, trained, number = done + played.kept, trained + played.trained, number + 1
        if played.end == "done":
            return clock, buckets
        failures.hold(played.held, met=played.end == "failure")
        preemptions.hold(played.held, met=played.end == "preemption")


def _attempt(  # noqa: PLR0912  one loop, as it is
    conditions: Conditions,
    done: int,
    trained: float,
    number: int,
    failure: float,
    preemption: float,
    leaves: float,
) -> Attempt:
    costs = conditions.costs
    told, reason = min((preemption, "preemption"), (max(0.0, leaves), "limit"))
    grace = conditions.limit - leaves if reason == "limit" else conditions.grace
    known = reason == "limit" or conditions.grace_known
    if min(failure, told) < costs.start:
        return _in_start(conditions, failure, told, reason, grace)
    now, steps, blocked, committed, last_save = costs.start, 0, 0.0, 0, costs.start
    flight: tuple[float, int] | None = None  # when a save began, and its steps
    pending, saved, begun = False, 0, now
    micro = costs.advance / conditions.micro_batches

    def ended(end: str, held: float, kept: int) -> Attempt:
        done = steps + (failure - begun) / costs.advance if end == "failure" else steps
        lost = max(0.0, done - kept)
        spent: Counter[str] = Counter(
            kept_steps=kept * costs.step,
            redone_steps=lost * costs.step,
            validation=done * costs.validation,
            saves=blocked,
            start=costs.start,
        )
        spent["ending"] = held - sum(spent.values())
        return Attempt(end, held, kept, (now - costs.start) * kept / max(done, 1), spent)

    while True:
        if flight is not None and now >= flight[0] + costs.writing and steps > flight[1]:
            committed, flight = flight[1], None
        if conditions.every is None:
            interval = conditions.interval or checkpoint_interval(
                costs.blocked, costs.writing, trained + now - costs.start, number
            )
            pending |= now - last_save >= interval - 1e-6 and steps > 0
        else:
            pending |= (done + steps) % conditions.every == 0 and steps > 0
        if done + steps == conditions.steps:
            blocked += costs.blocked
            return ended("done", now + costs.writing + costs.leaving, steps)
        if pending and flight is None:
            flight, last_save, pending, saved = (now, steps), now, False, steps
            if failure < now + costs.blocked:
                blocked, begun = blocked + failure - now, failure
                return ended("failure", failure + costs.crash, committed)
            now += costs.blocked
            blocked += costs.blocked
        begun = now
        for _ in range(conditions.micro_batches):
            if told <= now + 1e-9:
                waits = now - told
                writing = max(0.0, flight[0] + costs.writing - now) if flight else 0.0
                last = costs.writing if steps > saved else 0.0
                if waits + writing + last <= grace:
                    blocked += costs.blocked if last else 0.0
                    held = min(waits + writing + last + costs.leaving, grace)
                    return ended(reason, told + held, steps)
                if waits + writing <= grace:
                    held = min(waits + writing + costs.leaving, grace) if known else grace
                    return ended(reason, told + held, saved)
                return ended(reason, told + grace, committed)
            if failure < now + micro:
                return ended("failure", failure + costs.crash, committed)
            if told + grace < now + micro:
                return ended(reason, told + grace, committed)
            now += micro
        steps += 1


def _in_start(
    conditions: Conditions, failure: float, told: float, reason: str, grace: float
) -> Attempt:
    costs = conditions.costs
    if failure < told:
        spent = Counter({"start": failure, "ending": costs.crash})
        return Attempt("failure", failure + costs.crash, 0, 0.0, spent)
    waits = costs.start - costs.startup_first_step - told
    held = max(0.0, waits) + costs.leaving if waits <= grace else grace
    return Attempt(reason, told + held, 0, 0.0, Counter({"start": told, "ending": held}))
