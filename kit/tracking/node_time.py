"""Goodput as a run's own ledgers have it, for TensorBoard: only rank 0 writes there.

    account = Account(before(run, attempt), start)
    account.add(row); account.until(row["time"]).goodput

The row that begins an attempt has the sums of all earlier ones, so that a start reads the ledger of the
last attempt only. kit/watch/goodput.py splits all time, that in the queue included; goodput is the same
there, of the attempts that have ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.store import records
from kit.tracking import attempt_table, columns, ledger

if TYPE_CHECKING:
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Start
    from kit.tracking.columns import LedgerColumns, Mask
    from kit.tracking.rows import Row


@dataclass(frozen=True)
class NodeTime:
    """Node time of a run up to a moment, each attempt weighted with its ranks."""

    kept_seconds: float = 0.0  # of steps that are kept
    held_seconds: float = 0.0  # for which nodes were held
    lost_steps: int = 0  # done and not kept

    @property
    def goodput(self) -> float | None:
        """Kept over held; None if no node was held."""
        return self.kept_seconds / self.held_seconds if self.held_seconds > 0 else None

    def plus(self, other: NodeTime) -> NodeTime:
        """The sums of both."""
        return NodeTime(
            self.kept_seconds + other.kept_seconds,
            self.held_seconds + other.held_seconds,
            self.lost_steps + other.lost_steps,
        )

    @classmethod
    def from_row(cls, row: Row) -> NodeTime | None:
        """The fields in a row; None if it does not have them."""
        fields: dict[str, Any] = {**row}
        names = [*cls.__dataclass_fields__]
        return cls(*(fields[name] for name in names)) if set(names) <= set(fields) else None


class Account:
    """The account of a running attempt, row by row."""

    def __init__(self, before: NodeTime, start: Start) -> None:
        self._before, self._ranks, self._held_since = before, start["ranks"], held_since(start)
        self._steps: list[tuple[int, float]] = []  # kept ones of this attempt, with their seconds
        self._kept = 0.0  # seconds
        self._lost = self._done = 0

    def add(self, row: Row) -> None:
        """Count a row of the attempt."""
        if row["kind"] == "rollback":
            self._take_back(row["to_step"])
        elif row["kind"] == "step":
            self._done += 1
            if self._done == 2 and self._steps:  # the first one warms up: it counts as the second
                step, first = self._steps.pop()
                self._kept -= first
                self._keep(step, min(first, row["seconds"]))
            self._keep(row["step"], row["seconds"])

    def until(self, now: float) -> NodeTime:
        """The sums at a moment of the attempt."""
        return NodeTime(
            self._before.kept_seconds + self._kept * self._ranks,
            self._before.held_seconds + (now - self._held_since) * self._ranks,
            self._before.lost_steps + self._lost,
        )

    def _keep(self, step: int, seconds: float) -> None:
        self._steps.append((step, seconds))
        self._kept += seconds

    def _take_back(self, step: int) -> None:
        """Lose the steps beyond one, of those that this attempt did."""
        while self._steps and self._steps[-1][0] > step:
            self._kept -= self._steps.pop()[1]
            self._lost += 1


def before(run: Run, attempt: Attempt) -> NodeTime:
    """The sums of the attempts before one; the steps beyond its first are lost. Raises OSError."""
    bound = records.start(attempt)["from_step"]  # no step beyond it is kept
    read = [(bound, columns.NOTHING)]
    ends = {job: float(row["time"]) for job, row in attempt_table.decisions(run).items()}
    total = NodeTime()
    for earlier in reversed(ledger.attempts(run)):
        if earlier.number >= attempt.number:
            continue
        start, rows = records.start(earlier), columns.read(earlier)
        kept = columns.current([(start["from_step"], rows), *read])[0]
        total = total.plus(_of(earlier, start, rows, kept, ends.get(start["job"], 0.0)))
        back = [row["to_step"] for row in rows.events if row["kind"] == "rollback"]
        bound = min([bound, *back])
        recorded = next(filter(None, map(NodeTime.from_row, rows.events)), None)
        if recorded is not None and start["from_step"] <= bound:
            return total.plus(recorded)  # of the steps before that attempt all are kept
        bound = min(bound, start["from_step"])
        read.insert(0, (start["from_step"], rows))
    return total


def of_run(run: Run) -> NodeTime:
    """The sums of all attempts of a run that has ended. Raises OSError."""
    attempts = ledger.attempts(run)
    starts = [records.start(attempt) for attempt in attempts]
    read = [
        (start["from_step"], columns.read(a)) for a, start in zip(attempts, starts, strict=True)
    ]
    ends = {job: float(row["time"]) for job, row in attempt_table.decisions(run).items()}
    total = NodeTime()
    rows = zip(attempts, starts, read, columns.current(read), strict=True)
    for attempt, start, (_, of_attempt), kept in rows:
        total = total.plus(_of(attempt, start, of_attempt, kept, ends.get(start["job"], 0.0)))
    return total


def held_since(start: Start) -> float:
    """When an attempt began to hold its nodes: when its job started, if that is known."""
    return start.get("times", {}).get("started", start["time"])


def _of(
    attempt: Attempt, start: Start, rows: LedgerColumns, kept: Mask, decided: float
) -> NodeTime:
    """The time and the lost steps of one attempt until the decision on its job, or its last record."""
    seconds = rows.steps.seconds.copy()
    seconds[:1] = seconds[:2].min(
        initial=math.inf
    )  # the first one warms up: it counts as the second
    end = records.end(attempt)
    times = [start["time"], decided, *(row["time"] for row in rows.events), *rows.steps.time[-1:]]
    held = float(max([*times, end["time"]] if end else times)) - held_since(start)
    return NodeTime(
        float(seconds[kept].sum()) * start["ranks"],
        held * start["ranks"],
        len(kept) - int(kept.sum()),
    )
