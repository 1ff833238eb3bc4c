"""The pace of a run: the time of a step, how often it is interrupted, and the cost of an interruption.

    measured = pace(past, now)
    measured.seconds_a_step, measured.interruptions, measured.delays

A delay is the cost of an interruption: the time from the end of the last step that was kept before it to
the begin of the next one that was kept, so lost steps, ending, queue and start-up. Time in which the user
had stopped the run is no delay, nor is the time after a failure until it was submitted again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kit.watch.history import ended_by_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kit.watch.history import AttemptTimes, History

WEEK = 7 * 86_400.0
_BLOCKS = 20  # of steps: their means tell how well the mean of all is known
_LIMIT = "time limit"


@dataclass(frozen=True)
class Pace:
    """Measurements of a run up to a moment."""

    seconds_a_step: float | None  # with validations and saves; None before the first step
    error: float  # standard error of it, as a share of it
    blocks: int  # means of which that was computed: one more than its degrees of freedom
    advancing: float  # seconds in which interruptions could happen
    interruptions: int  # but for time limits
    limits: int  # ends at a time limit
    delays: Sequence[float]  # seconds, of interruptions and limits that are over
    waited: float | None  # seconds since the last kept step if no attempt does steps now, else None


@dataclass(frozen=True)
class _Stretch:
    """The kept steps of one attempt, one after the other."""

    attempt: AttemptTimes
    begin: float
    end: float
    steps: NDArray[np.float64]  # seconds from the end of each step before; its own of the first


def pace(past: History, now: float, *, over: float = float("inf")) -> Pace:
    """Measure the last `over` seconds before `now`; steps are those of the last week at the most."""
    stretches = [_stretch(one) for one in past.attempts if one.kept.any()]
    since = now - over
    steps = _recent(stretches, max(since, now - WEEK))
    means = _means(steps)
    mean = float(steps.mean()) if len(steps) else None
    error = (
        float(means.std(ddof=1) / np.sqrt(len(means)) / mean) if mean and len(means) > 1 else 0.0
    )
    ends = [one for one in stretches if one.attempt.decision is not None and _goes_on(one.attempt)]
    ends = [one for one in ends if one.end >= since]
    limits = sum(_at_limit(one.attempt) for one in ends)
    return Pace(
        mean,
        error,
        len(means),
        sum(max(0.0, one.end - max(one.begin, since)) for one in stretches),
        len(ends) - limits,
        limits,
        _delays(stretches, since),
        _waited(past, stretches, now),
    )


def _waited(past: History, stretches: Sequence[_Stretch], now: float) -> float | None:
    last = past.attempts[-1] if past.attempts else None
    if last is not None and last.decision is None and last.left is None and last.kept.any():
        return None
    before = stretches[-1] if stretches else None
    if before is None or (before.attempt.decision is not None and not _goes_on(before.attempt)):
        return 0.0  # the run has not begun, or its user stopped it
    return max(0.0, now - before.end)


def _stretch(one: AttemptTimes) -> _Stretch:
    ended, seconds = one.ended[one.kept], one.seconds[one.kept]
    begin = float(ended[0] - seconds[0])
    return _Stretch(one, begin, float(ended[-1]), np.diff(ended, prepend=begin))


def _recent(stretches: Sequence[_Stretch], since: float) -> NDArray[np.float64]:
    """Seconds of each step since a time, or of the last attempt's if there is none."""
    recent = [one.steps[one.attempt.ended[one.attempt.kept] >= since] for one in stretches]
    found = np.concatenate(recent) if recent else np.empty(0)
    return found if len(found) or not stretches else stretches[-1].steps


def _means(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of blocks of steps that follow one another, so that a slow hour counts as one observation."""
    blocks = min(_BLOCKS, len(steps) // 2)
    return np.array([block.mean() for block in np.array_split(steps, blocks)] if blocks else [])


def _goes_on(one: AttemptTimes) -> bool:
    """Whether the end of an attempt is an interruption: not the run's end, and not the user's wish."""
    return one.decision is not None and one.decision["requeued"]


def _at_limit(one: AttemptTimes) -> bool:
    return one.decision is not None and one.decision["reason"] == _LIMIT


def _delays(stretches: Sequence[_Stretch], since: float) -> list[float]:
    found = []
    for before, after in itertools.pairwise(stretches):
        decision = before.attempt.decision
        wished = decision is not None and (ended_by_user(decision) or not decision["requeued"])
        if before.end >= since and not wished:
            found.append(max(0.0, after.begin - before.end))
    return found
