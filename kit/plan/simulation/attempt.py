"""One attempt of each run: when and why it ends, the steps it keeps, and its time.

    played = play(conditions, begin)

An attempt ends with the last step; at a failure, which costs the steps since the last committed
checkpoint; at a preemption, or ahead of its time limit. Before the last two it saves, as
kit/training/checkpointer.py does, if the time that it has left allows it. What happens while it ends, which
takes seconds, is not interrupted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kit.plan.simulation.saves import Saves

if TYPE_CHECKING:
    from kit.plan.simulation.conditions import Conditions
    from kit.plan.simulation.draws import Floats, Integers

DONE, FAILURE, PREEMPTION, LIMIT = range(4)
START = ("startup_import", "startup_ranks", "startup_load", "startup_first_step")
BUCKETS = (
    "kept_steps",
    "redone_steps",
    "validation",
    "saves",
    *START,
    "ending",
)  # while it holds nodes
_ROUNDING = 1e-6  # of a step


@dataclass(frozen=True)
class Begin:
    """The state in which attempts begin, one value for each run."""

    done: Floats  # steps in the newest checkpoint
    trained: Floats  # seconds in the loop, as that checkpoint has them
    attempts: Floats  # before this one
    failure: Floats  # seconds of the attempt until the next failure
    preemption: Floats  # seconds until the next preemption
    early: Floats  # seconds by which Slurm warns of the time limit early


class Played(NamedTuple):
    """How attempts ended, one value for each run."""

    end: Integers  # DONE, FAILURE, PREEMPTION or LIMIT
    kept: Floats  # steps
    trained: Floats  # seconds in the loop, as the newest checkpoint has them now
    seconds: Floats  # of each of BUCKETS, a row each


class _Loop(NamedTuple):
    """Steps and seconds of the loop, until the job has ended."""

    steps: Floats  # those done, fractions included
    kept: Floats
    saving: Floats  # seconds for which saves blocked steps
    ending: Floats  # seconds


def play(conditions: Conditions, begin: Begin) -> Played:
    """Play one attempt of each run."""
    costs = conditions.costs
    left = conditions.steps - begin.done
    lead = np.maximum(conditions.lead, conditions.warning + begin.early)
    leaves = np.maximum(conditions.limit - lead, 0.0)
    stop = np.minimum(np.minimum(begin.failure, begin.preemption), leaves)
    middle = np.clip(stop - costs.start, 0.0, left * costs.advance) / 2
    saves = Saves.of(conditions, begin.done, begin.trained + middle, begin.attempts)
    finish = costs.start + left * costs.advance + saves.before(left) * costs.blocked
    last = finish - costs.advance / conditions.micro_batches  # from then on it finishes
    told = [np.where(one > last, np.inf, one) for one in (begin.preemption, leaves)]
    end = np.argmin([finish + costs.writing, begin.failure, *told], axis=0)
    at = np.choose(end, [finish, begin.failure, *told])
    seconds = np.empty((len(BUCKETS), len(at)))
    kept, in_loop = np.zeros_like(at), np.maximum(0.0, at - costs.start)
    for rows, loop in _loops(conditions, saves, end, at, left, lead):
        kept[rows] = loop.kept
        seconds[:, rows] = _seconds(conditions, loop, at[rows])
    done = seconds[0] + seconds[1]
    share = np.divide(kept * costs.step, done, out=np.zeros_like(done), where=done > 0)
    return Played(end, kept, in_loop * np.minimum(share, 1.0), seconds)


def _loops(
    conditions: Conditions,
    saves: Saves,
    end: Integers,
    at: Floats,
    left: Floats,
    lead: Floats,
) -> list[tuple[Integers, _Loop]]:
    """The runs by the way in which their attempt ends."""
    costs = conditions.costs
    elapsed = at - costs.start
    in_start = (elapsed < 0) & (end > FAILURE)
    grace = np.where(end == LIMIT, lead, conditions.grace)
    done, failed = np.flatnonzero(end == DONE), np.flatnonzero(end == FAILURE)
    early, told = np.flatnonzero(in_start), np.flatnonzero((end > FAILURE) & ~in_start)
    known = (end[told] == LIMIT) | conditions.grace_known
    return [
        (done, _finished(conditions, saves.where(done), left[done])),
        (failed, _failed(conditions, saves.where(failed), np.maximum(0.0, elapsed[failed]))),
        (early, _interrupted_start(conditions, at[early], grace[early])),
        (told, _left(conditions, saves.where(told), elapsed[told], grace[told], known)),
    ]


def _finished(conditions: Conditions, saves: Saves, left: Floats) -> _Loop:
    costs = conditions.costs
    blocked = (saves.before(left) + 1) * costs.blocked
    ending = np.full_like(left, costs.writing - costs.blocked + costs.leaving)
    return _Loop(left, left, blocked, ending)


def _failed(conditions: Conditions, saves: Saves, elapsed: Floats) -> _Loop:
    place = saves.at(elapsed)
    ending = np.full_like(elapsed, conditions.costs.crash)
    return _Loop(place.steps, place.committed_steps, place.blocked, ending)


def _interrupted_start(conditions: Conditions, at: Floats, grace: Floats) -> _Loop:
    """Told to leave before the loop, which then leaves as it begins."""
    costs, nothing = conditions.costs, np.zeros_like(at)
    waits = costs.start - costs.startup_first_step - at
    ending = np.where(waits <= grace, np.maximum(0.0, waits) + costs.leaving, grace)
    return _Loop(nothing, nothing, nothing, ending)


def _left(
    conditions: Conditions, saves: Saves, elapsed: Floats, grace: Floats, known: Any
) -> _Loop:
    """Told to leave: after the micro-batch in progress, the save in flight, and a last one."""
    costs, micro = conditions.costs, conditions.micro_batches
    place = saves.at(elapsed)
    full = np.floor(place.steps + _ROUNDING)
    fraction = np.maximum(0.0, place.steps - full)
    until = np.ceil(fraction * micro - _ROUNDING) / micro  # of the step
    wait = (until - fraction) * costs.advance
    steps = np.where(wait <= grace, full + (until >= 1), full)
    # A save that is due then begins, or one that has begun goes on blocking.
    stop = np.where(wait <= grace, wait, 0.0)
    place = saves.at(elapsed + stop + _ROUNDING * costs.advance)
    wait = wait + place.still_blocked
    since = place.since + place.still_blocked
    flight = np.where(place.begun > 0, np.maximum(0.0, costs.writing - since), 0.0)
    unsaved = steps > place.begun_steps
    needed = wait + flight + unsaved * costs.writing
    saved, flown = needed <= grace, wait + flight <= grace
    kept = np.where(saved, steps, np.where(flown, place.begun_steps, place.committed_steps))
    held = np.where(saved, needed, wait + flight) + costs.leaving  # from the signal to the end
    # SIGKILL ends the job with the grace time; where that is unknown, a save is begun all the same.
    held = np.where(saved | (flown & known), np.minimum(held, grace), grace)
    saving = place.blocked + place.still_blocked + (saved & unsaved) * costs.blocked
    return _Loop(steps, kept, saving, elapsed + held - steps * costs.advance - saving)


def _seconds(conditions: Conditions, loop: _Loop, at: Floats) -> Floats:
    """The seconds of each bucket."""
    costs = conditions.costs
    spent, left = [], at
    for part in START:
        spent.append(np.clip(left, 0.0, getattr(costs, part)))
        left = left - spent[-1]
    return np.stack(
        [
            loop.kept * costs.step,
            np.maximum(0.0, loop.steps - loop.kept) * costs.step,
            loop.steps * costs.validation,
            loop.saving,
            *spent,
            loop.ending,
        ]
    )
