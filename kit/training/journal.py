"""The ledger of an attempt as text, in rank 0's log: a view, like TensorBoard.

One line for each event; for steps, the first, the last, and one a minute.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from kit.output import log, quantities
from kit.output.progress import MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.tracking.rows import (
        AmendmentRow,
        AttemptRow,
        CheckpointRow,
        EndRow,
        HealthRow,
        RollbackRow,
        Row,
        SampleRow,
        SaveFailedRow,
        StepRow,
        ValidationRow,
    )


class Journal:
    """Writes the lines of one attempt."""

    def __init__(self) -> None:
        self._steps = 0  # of the whole run
        self._logged: float | None = None  # monotonic time of the last line on a step
        self._pace: deque[tuple[float, float]] = deque()  # seconds and tokens of the last steps
        self._seconds = 0.0  # of those steps

    def add(self, row: Row) -> None:
        """Log a row, unless it is a step within a minute of the last one logged."""
        if row["kind"] == "attempt":
            self._steps = row["steps"]
        line = self._step(row) if row["kind"] == "step" else event_line(row)
        if line is not None:
            log.info(line)

    def _step(self, row: StepRow) -> str | None:
        self._pace.append((row["seconds"], row["seconds"] * row["tokens_per_second"]))
        self._seconds += row["seconds"]
        while self._seconds - self._pace[0][0] >= MINUTE:
            self._seconds -= self._pace.popleft()[0]
        now = time.monotonic()
        is_last = row["step"] >= self._steps
        if self._logged is not None and now < self._logged + MINUTE and not is_last:
            return None
        self._logged = now
        return step_line(row, self._steps, list(self._pace))


def step_line(row: StepRow, steps: int, pace: list[tuple[float, float]]) -> str:
    """A step in one line; `pace`: seconds and tokens of each step of the last minute."""
    seconds, tokens = (sum(column) for column in zip(*pace, strict=True))
    loss = quantities.loss(row["loss"])
    line = f"step {row['step']:,} of {steps:,}, loss {loss}, {tokens / seconds:,.0f} tokens/s"
    if row["step"] >= steps:
        return line
    left = (steps - row["step"]) * seconds / len(pace)
    return f"{line}, {quantities.duration(left)} left"


def event_line(row: Row) -> str | None:
    """A row of another kind in one line; None if the job logs that event itself."""
    line = _LINES.get(row["kind"])
    return line(row) if line else None


def _attempt(row: AttemptRow) -> str:
    ranks = quantities.count(row["ranks"], "rank")
    parameters = quantities.count(row["parameters"], "parameter")
    start = f"after step {row['step']:,} of {row['steps']:,}" if row["step"] else "at step 0"
    return f"training starts {start}: {ranks}, {parameters}, {row['training_tokens']:,} tokens"


def _amendment(row: AmendmentRow) -> str:
    return f"amended: {row['key']}: {row['old']} -> {row['new']}"


def _validation(row: ValidationRow) -> str:
    duration = quantities.duration(row["seconds"])
    loss = quantities.loss(row["validation_loss"])
    return f"validation at step {row['step']:,}: loss {loss} in {duration}"


def _sample(row: SampleRow) -> str:
    return f"sample at step {row['step']:,}: {row['text']!r}"


def _checkpoint(row: CheckpointRow) -> str:
    size, duration = quantities.size(row["bytes"]), quantities.duration(row["seconds"])
    blocked = quantities.duration(row["blocked"])
    return (
        f"checkpoint of step {row['step']:,}: {size} in {duration}, blocking training for {blocked}"
    )


def _save_failed(row: SaveFailedRow) -> str:
    return f"checkpoint of step {row['step']:,} failed: {row['reason']}"


def _health(row: HealthRow) -> str:
    action = {"skip": "update skipped", "stop": "the run stops"}[row["action"]]
    return f"bad step {row['step']:,}: {row['what']}; {action}"


def _rollback(row: RollbackRow) -> str:
    first, end = row["passed_over"]
    skipped = quantities.count(end - first, "sample")
    target = f"rolled back to step {row['to_step']:,}"
    return f"bad step {row['step']:,}: {row['what']}; {target}, {skipped} skipped"


def _end(row: EndRow) -> str | None:
    """The end of a finished run; every job logs an interruption or a failure with its exit code."""
    return f"finished after step {row['step']:,}" if row["outcome"] == "done" else None


_LINES: dict[str, Callable[[Any], str | None]] = {
    "attempt": _attempt,
    "amendment": _amendment,
    "validation": _validation,
    "sample": _sample,
    "checkpoint": _checkpoint,
    "save_failed": _save_failed,
    "health": _health,
    "rollback": _rollback,
    "end": _end,
}
