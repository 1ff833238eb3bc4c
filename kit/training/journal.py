"""An attempt's ledger in words, for rank 0's log: a view, as TensorBoard is.

Every event is one line; of steps the first, the last, and one a minute.
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
        SaveFailedRow,
        StepRow,
        ValidationRow,
    )


class Journal:
    """Writes the lines of one attempt."""

    def __init__(self) -> None:
        self._steps = 0  # of the whole run
        self._said: float | None = None  # when the last step was told
        self._pace: deque[tuple[float, float]] = deque()  # seconds and tokens of the last steps

    def add(self, row: Row) -> None:
        """Tell of a row, if there is something to tell."""
        if row["kind"] == "attempt":
            self._steps = row["steps"]
        line = self._step(row) if row["kind"] == "step" else said(row)
        if line is not None:
            log.info(line)

    def _step(self, row: StepRow) -> str | None:
        self._pace.append((row["seconds"], row["seconds"] * row["tokens_per_second"]))
        while sum(seconds for seconds, _ in self._pace) - self._pace[0][0] >= MINUTE:
            self._pace.popleft()
        now = time.monotonic()
        is_last = row["step"] >= self._steps
        if self._said is not None and now < self._said + MINUTE and not is_last:
            return None
        self._said = now
        return step(row, self._steps, list(self._pace))


def step(row: StepRow, steps: int, pace: list[tuple[float, float]]) -> str:
    """A step; `pace`: seconds and tokens of each step of the last minute."""
    seconds, tokens = (sum(column) for column in zip(*pace, strict=True))
    loss = quantities.loss(row["loss"])
    line = f"step {row['step']:,} of {steps:,}, loss {loss}, {tokens / seconds:,.0f} tokens/s"
    if row["step"] >= steps:
        return line
    left = (steps - row["step"]) * seconds / len(pace)
    return f"{line}, {quantities.duration(left)} left"


def said(row: Row) -> str | None:
    """A row of another kind, in one line; None for one that the log has in other words."""
    write = _LINES.get(row["kind"])
    return write(row) if write else None


def _attempt(row: AttemptRow) -> str:
    ranks = quantities.count(row["ranks"], "rank")
    parameters = quantities.count(row["parameters"], "parameter")
    of = f"after step {row['step']:,} of {row['steps']:,}" if row["step"] else "at step 0"
    return f"training begins {of}: {ranks}, {parameters}, {row['training_tokens']:,} tokens"


def _amendment(row: AmendmentRow) -> str:
    return f"amended: {row['key']}: {row['old']} -> {row['new']}"


def _validation(row: ValidationRow) -> str:
    took = quantities.duration(row["seconds"])
    loss = quantities.loss(row["validation_loss"])
    return f"validation at step {row['step']:,}: loss {loss} in {took}"


def _checkpoint(row: CheckpointRow) -> str:
    size, took = quantities.size(row["bytes"]), quantities.duration(row["seconds"])
    waited = quantities.duration(row["blocked"])
    return f"checkpoint of step {row['step']:,}: {size} in {took}, training waited {waited}"


def _save_failed(row: SaveFailedRow) -> str:
    return f"checkpoint of step {row['step']:,} failed: {row['reason']}"


def _health(row: HealthRow) -> str:
    done = {"skip": "its update is skipped", "stop": "the run stops"}[row["action"]]
    return f"bad step {row['step']:,}: {row['what']}; {done}"


def _rollback(row: RollbackRow) -> str:
    first, end = row["passed_over"]
    skipped = quantities.count(end - first, "sample")
    return f"bad step {row['step']:,}: {row['what']}; back to step {row['to_step']:,}, {skipped} skipped"


def _end(row: EndRow) -> str | None:
    """That of an interruption or a failure is said with the exit code, by every job."""
    return f"finished after step {row['step']:,}" if row["outcome"] == "done" else None


_LINES: dict[str, Callable[[Any], str | None]] = {
    "attempt": _attempt,
    "amendment": _amendment,
    "validation": _validation,
    "checkpoint": _checkpoint,
    "save_failed": _save_failed,
    "health": _health,
    "rollback": _rollback,
    "end": _end,
}
