"""What is recorded of an attempt: by rank 0 in the ledger and its views, by other ranks nothing."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from kit.config import amendments, devices
from kit.output import log
from kit.plan import schedule
from kit.plan.flops import flops_per_token
from kit.store.files import read_json
from kit.tracking import ledger, mlflow
from kit.tracking.tensorboard import EventFile
from kit.training.journal import Journal

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Attempt, Run
    from kit.tracking.ledger import Row
    from kit.training.batches import Batches
    from kit.training.context import Context
    from kit.training.progress import Progress
    from kit.training.saver import Saved

_PAUSE = 60.0  # seconds until TensorBoard's files are tried again
_MLFLOW_STATUS = {
    "done": "FINISHED", "interrupted": "SCHEDULED", "stopped": "KILLED", "failed": "FAILED",
    "superseded": None,  # a newer attempt is running
}  # fmt: skip


def recorder(context: Context, start: dict[str, Any], batches: Batches) -> Recorder:
    """That of a rank."""
    if context.team.rank > 0:
        return Recorder()
    return LedgerRecorder(
        context.run, context.recipe, context.cluster, context.attempt, start, batches
    )


class Recorder:
    """Records nothing: the recorder of ranks above 0."""

    def begin(self, rates: schedule.Schedule, parameters: int) -> None:
        """What the attempt sets out to do: its first row."""

    def step(
        self,
        progress: Progress,
        figures: dict[str, float],
        flags: dict[str, bool],
        seconds: float,
        memory_bytes: int,
    ) -> None:
        """A step that is done; `figures`: loss (nats a token), learning_rate, gradient_norm, loss_scale.

        `flags` of a step whose update was left out: `skipped`, a bad one, or `overflow`, its gradient too
        large for fp16 at that loss scale.
        """

    def validation(self, step: int, loss: float, seconds: float) -> None:
        """A validation after `step` steps."""

    def checkpoint(self, saved: Saved, blocked: float) -> None:
        """A checkpoint is committed, for which training waited `blocked` seconds."""

    def save_failed(self, saved: Saved) -> None:
        """A save has failed."""

    def bad_step(self, step: int, what: str, action: str) -> None:
        """A bad step was skipped, or stops the run."""

    def roll_back(self, step: int, what: str, progress: Progress) -> None:
        """A bad step was met by rolling back: the rows beyond `progress.step` no longer count."""

    def sync(self) -> None:
        """Make the rows durable. Raises OSError."""

    def close(self, outcome: dict[str, Any]) -> None:
        """The last row; what MLflow has not got by then, the next attempt publishes."""


class LedgerRecorder(Recorder):
    """Rank 0's: writes each row to the ledger first, then to its views."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        cluster: Cluster,
        attempt: Attempt,
        start: dict[str, Any],
        batches: Batches,
    ) -> None:
        self._model, self._batches, self._start = recipe.model, batches, start
        self._accelerator = cluster.training.accelerator
        self._flops = 0.0  # of a token
        self._journal = Journal()
        self._run, self._attempt = run, attempt
        self._rows = ledger.Ledger(attempt)
        self._draws = recipe.tracking.tensorboard
        self._events: EventFile | None = None
        self._redraw_at = 0.0
        self._publisher: mlflow.Publisher | None = None
        if recipe.tracking.mlflow is not None:
            self._publisher = mlflow.Publisher(run, recipe)

    def begin(self, rates: schedule.Schedule, parameters: int) -> None:
        """See `Recorder`."""
        self._flops = flops_per_token(parameters, self._model)
        self._add(
            "attempt",
            step=self._start["from_step"],
            steps=rates.end,
            schedule=schedule.record(rates),
            parameters=parameters,
            training_tokens=len(self._batches.row),
            ranks=self._batches.ranks,
            accumulation=self._batches.accumulation,
            **({"origin": read_json(self._run.origin)} if self._run.origin.is_file() else {}),
        )
        for row in self._amendments():
            self._add(
                "amendment", step=self._start["from_step"], amended=row["time"], **_values(row)
            )

    def step(
        self,
        progress: Progress,
        figures: dict[str, float],
        flags: dict[str, bool],
        seconds: float,
        memory_bytes: int,
    ) -> None:
        """See `Recorder`."""
        rate = self._batches.global_batch * self._batches.length / seconds
        self._add(
            "step",
            step=progress.step,
            **figures,
            sample=progress.sample,
            **{name: True for name, is_set in flags.items() if is_set},
            seconds=seconds,
            tokens_per_second=rate,
            mfu=self._mfu(rate),
            memory_bytes=memory_bytes,
        )

    def validation(self, step: int, loss: float, seconds: float) -> None:
        """See `Recorder`."""
        self._add("validation", step=step, validation_loss=loss, seconds=seconds)

    def checkpoint(self, saved: Saved, blocked: float) -> None:
        """See `Recorder`."""
        self._add(
            "checkpoint",
            step=saved.step,
            blocked=blocked,
            seconds=saved.seconds,
            bytes=saved.bytes,
        )

    def save_failed(self, saved: Saved) -> None:
        """See `Recorder`."""
        self._add("save_failed", step=saved.step, reason=saved.reason)

    def bad_step(self, step: int, what: str, action: str) -> None:
        """See `Recorder`."""
        self._add("health", step=step, what=what, action=action)

    def roll_back(self, step: int, what: str, progress: Progress) -> None:
        """See `Recorder`."""
        passed_over = progress.passed_over[-1]
        self._add("rollback", step=step, what=what, to_step=progress.step, passed_over=passed_over)

    def sync(self) -> None:
        """See `Recorder`."""
        self._rows.sync()

    def close(self, outcome: dict[str, Any]) -> None:
        """See `Recorder`."""
        self._redraw_at = 0.0
        self._add("end", **outcome)
        try:
            self._rows.close()
        except OSError as error:
            log.warning(f"ledger: {error.strerror}; its last rows are lost")
        if self._events:
            self._events.close()
        status = _MLFLOW_STATUS[outcome["outcome"]]
        if self._publisher and status is not None:
            # Of an interruption the grace time is short.
            self._publisher.close(status, patience=30.0 if status == "FINISHED" else 3.0)

    def _add(self, kind: str, **fields: Any) -> None:
        """Another row; what is not finite is null in it."""
        row = self._rows.add(kind, **{name: _finite(value) for name, value in fields.items()})
        self._journal.add(row)
        if self._draws:
            self._draw(row)
        if self._publisher:
            self._publisher.add(row)

    def _amendments(self) -> list[dict[str, Any]]:
        """Those that this attempt is the first to know of."""
        before = [a for a in ledger.attempts(self._run) if a.number < self._attempt.number]
        known = read_json(before[-1].start)["amendments"] if before else 0
        return amendments.recorded(self._run)[known : self._start["amendments"]]

    def _mfu(self, tokens_per_second: float) -> float | None:
        """The share of the devices' peak that the model's own work takes; null on a CPU."""
        if self._accelerator is None:
            return None
        peak = devices.ACCELERATORS[self._accelerator].peak_flops * self._batches.ranks
        return tokens_per_second * self._flops / peak

    def _draw(self, row: Row) -> None:
        """Show a row in TensorBoard; after a full disk, all rows of the attempt anew."""
        try:
            if self._events is None:
                if time.monotonic() < self._redraw_at:
                    return
                number, start = self._attempt.number, self._start
                self._events = EventFile(self._run, number, start["from_step"], start["time"])
                for earlier in ledger.rows(self._attempt):
                    self._events.add(earlier)
            else:
                self._events.add(row)
        except OSError as error:
            log.warning(f"{self._run.tensorboard}: {error.strerror}; drawn again later")
            self._events = None
            self._redraw_at = time.monotonic() + _PAUSE


def _values(amendment: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in amendment.items() if name != "time"}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
