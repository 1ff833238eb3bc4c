"""The attempts of a run as times, from the rows of their ledgers.

    past = history(snapshot(run))
    past.attempts[-1].kept, past.seconds

All times are Unix times in seconds, as the rows have them; kit/watch/goodput.py makes intervals of them,
and kit/watch/pace.py the figures that arrival is computed from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.cluster import decisions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kit.cluster.decisions import RequeueRecord
    from kit.cluster.snapshot import AttemptFacts, Hang, Snapshot

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AttemptTimes:
    """The times of an attempt and its steps."""

    number: int
    ranks: int
    start: float  # its job has started; if that is not known, as `claimed`
    imported: float | None  # rank 0 has imported its modules
    claimed: float  # rank 0 has chosen a checkpoint
    met: float | None  # all ranks have joined
    from_step: int
    loaded: float | None  # the ranks have met, and hold the state
    steps: NDArray[np.int64]  # number of each step that was done, in the order of the ledger
    ended: Floats  # when each of them ended
    seconds: Floats  # how long each took
    kept: NDArray[np.bool_]  # which are part of the run as it stands
    validations: Floats  # rows of end, seconds
    saves: Floats  # rows of commit, seconds from its begin, seconds for which training waited
    left: float | None  # the ranks left the loop, of their own accord
    outcome: str | None  # how, in words
    hang: Hang | None
    decision: RequeueRecord | None  # on its job, when that had ended
    last: float  # the last time that any of its files holds

    @property
    def first_activity(self) -> float | None:
        """When its first step or validation began."""
        begins = [
            *(self.ended[:1] - self.seconds[:1]),
            *(self.validations[:1, 0] - self.validations[:1, 1]),
        ]
        return float(min(begins)) if begins else None

    @property
    def last_activity(self) -> float | None:
        """When its last step or validation ended."""
        ends = [*self.ended[-1:], *self.validations[-1:, 0]]
        return float(max(ends)) if ends else None


@dataclass(frozen=True)
class History:
    """The attempts that started, in order."""

    attempts: Sequence[AttemptTimes]
    seconds: float | None  # the median time of a step, without the first of each attempt


def history(seen: Snapshot, *, alive: bool) -> History:
    """Read the rows of a snapshot once; `alive`: the last attempt may be running still.

    A step is kept if no later attempt, and no rollback, started below it. After the end of the last attempt
    steps beyond the last checkpoint are lost too.
    """
    decided = {row["job"]: row for row in seen.decisions if row["name"] == "train"}
    begun = seen.begun
    decisions_on = [decided.get(one.start.get("job", "")) if one.start else None for one in begun]
    bound = math.inf  # no step beyond it is kept
    if begun:
        last = begun[-1]
        over = decisions_on[-1] is not None or last.end is not None or not alive
        if over and not (last.end and last.end.outcome == "done"):
            bound = max(seen.saved or 0, last.start["from_step"] if last.start else 0)
    attempts = [
        _attempt(facts, decision, mask & (facts.rows.steps.step <= bound))
        for facts, decision, mask in zip(begun, decisions_on, seen.current, strict=True)
    ]
    later = [one.seconds[1:] for one in attempts] if attempts else []
    steady = np.concatenate(later) if later else np.empty(0)
    every = np.concatenate([one.seconds for one in attempts]) if attempts else np.empty(0)
    usual = steady if len(steady) else every
    return History(attempts, float(np.median(usual)) if len(usual) else None)


def _attempt(
    facts: AttemptFacts, decision: RequeueRecord | None, kept: NDArray[np.bool_]
) -> AttemptTimes:
    """The times of an attempt, of whose steps `kept` are."""
    assert facts.start is not None
    steps = facts.rows.steps
    validations: list[tuple[float, float]] = []
    saves: list[tuple[float, float, float]] = []
    loaded, met, left = None, None, None
    for row in facts.rows.events:
        if row["kind"] == "validation":
            validations.append((row["time"], row["seconds"]))
        elif row["kind"] == "checkpoint":
            saves.append((row["time"], row["seconds"], row["blocked"]))
        elif row["kind"] == "attempt":
            loaded, met = row["time"], row.get("met")
        elif row["kind"] == "end":
            left = row["time"]
    claimed = facts.start.get("time", math.nan)
    before = facts.start.get("times", {})
    known: list[Any] = [claimed, loaded, left]
    known += [facts.end and facts.end.time, facts.hang and facts.hang.time]
    known += [steps.time[-1] if len(steps) else None, validations[-1][0] if validations else None]
    known += [saves[-1][0] if saves else None]
    times = [float(one) for one in known if one is not None and math.isfinite(one)]
    first = claimed if math.isfinite(claimed) else min(times, default=0.0)
    return AttemptTimes(
        facts.number,
        facts.start.get("ranks", 1),
        min(first, before.get("started", first)),
        before.get("imported"),
        first,
        met,
        facts.start["from_step"],
        loaded,
        steps.step,
        steps.time,
        steps.seconds,
        kept,
        np.array(validations, np.float64).reshape(-1, 2),
        np.array(saves, np.float64).reshape(-1, 3),
        left if left is not None else (facts.end.time if facts.end else None),
        _outcome(facts),
        facts.hang,
        decision,
        max(times, default=0.0),
    )


def _outcome(facts: AttemptFacts) -> str | None:
    if facts.end is None:
        return None
    return f"{facts.end.outcome} ({facts.end.reason})" if facts.end.reason else facts.end.outcome


def ended_by_user(row: RequeueRecord) -> bool:
    """Whether a decision says that the user ended the job."""
    return row["reason"] == decisions.CANCELLED or row["reason"].startswith(decisions.STOPPED)
