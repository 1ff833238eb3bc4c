"""Rank 0's book of an attempt: the ledger, and the views that follow it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kit.tracking import mlflow
from kit.tracking.ledger import Ledger
from kit.tracking.tensorboard import EventFile

if TYPE_CHECKING:
    from kit.config import Recipe
    from kit.training.batches import Batches
    from kit.workspace import Attempt, Run

_PAUSE = 60.0  # seconds between two lines in the log


class Book:
    """Writes each row to the ledger first, then to its views."""

    def __init__(
        self, run: Run, recipe: Recipe, attempt: Attempt, start: dict[str, Any], batches: Batches
    ) -> None:
        self._batches = batches
        self._steps = 0
        self._told = 0.0
        self._start = start
        self._rows = Ledger(attempt)
        self._events: EventFile | None = None
        self._publisher: mlflow.Publisher | None = None
        if recipe.tracking.tensorboard:
            self._events = EventFile(run, attempt.number, start["from_step"], start["time"])
        if recipe.tracking.mlflow is not None:
            self._publisher = mlflow.Publisher(run, recipe)

    def begin(self, steps: int, parameters: int) -> None:
        """The attempt's first row: what it sets out to do."""
        self._steps = steps
        self.add(
            "attempt",
            step=self._start["from_step"],
            steps=steps,
            parameters=parameters,
            training_tokens=len(self._batches.row),
            ranks=self._batches.ranks,
            accumulation=self._batches.accumulation,
        )

    def step(
        self, step: int, loss: float, learning_rate: float, gradient_norm: float, seconds: float
    ) -> None:
        """A step that is done, counted from 1; the loss in nats a token."""
        samples = self._batches.global_batch
        rate = samples * self._batches.length / seconds
        if time.monotonic() > self._told + _PAUSE:
            self._told = time.monotonic()
            left = (self._steps - step) * seconds
            progress = f"step {step} of {self._steps}, loss {loss:.3f}, {rate:,.0f} tokens/s"
            print(f"{progress}, {left / 3600:.1f} h left at this rate", flush=True)
        self.add(
            "step",
            step=step,
            loss=loss,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            samples=step * samples,
            seconds=seconds,
            tokens_per_second=rate,
        )

    def add(self, kind: str, **fields: Any) -> None:
        """Another row."""
        row = self._rows.add(kind, **fields)
        if self._events:
            self._events.add(row)
        if self._publisher:
            self._publisher.add(row)

    def sync(self) -> None:
        """Make the rows durable."""
        self._rows.sync()

    def close(self, outcome: dict[str, Any]) -> None:
        """The last row; what MLflow has not got by then, the next attempt publishes."""
        self.add("end", **outcome)
        self._rows.close()
        if self._events:
            self._events.close()
        if self._publisher:
            if outcome["outcome"] == "done":
                self._publisher.close("FINISHED", patience=30.0)
            else:  # the grace time is short
                self._publisher.close("SCHEDULED", patience=3.0)
