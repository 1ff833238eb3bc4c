"""Recording of an attempt: rank 0 writes the ledger and its views, other ranks nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from kit.config import amendments, devices
from kit.models import architectures
from kit.output import log
from kit.plan import schedule
from kit.store import records
from kit.store.files import read_json
from kit.tracking import ledger, node_time
from kit.tracking.drawer import Drawer
from kit.tracking.mlflow.beside import Publishing
from kit.training.gpu_readings import GpuReadings
from kit.training.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.store.records import Result, Start
    from kit.tracking.rows import (
        AmendmentFields,
        AttemptFields,
        Flags,
        Row,
        StepFigures,
        StepUsage,
        ValidationFields,
    )
    from kit.training.batches import Batches
    from kit.training.context import Context
    from kit.training.exactness import Exactness
    from kit.training.progress import Progress
    from kit.training.samples import Sample
    from kit.training.saver import Saved

# Seconds to publish the end to MLflow: an interruption has a short grace time.
_TO_PUBLISH, _TO_PUBLISH_INTERRUPTED = 30.0, 3.0


def recorder(
    context: Context, start: Start, batches: Batches, tokens_per_byte: float | None
) -> Recorder:
    """The recorder of this rank; `tokens_per_byte`: of the validated blocks."""
    if context.collectives.rank > 0:
        return Recorder()
    return LedgerRecorder(context, start, batches, tokens_per_byte)


class Recorder:
    """Records nothing: the recorder of ranks above 0."""

    def begin(self, rates: schedule.Schedule, parameters: int, exact: Exactness) -> None:
        """Record the start of the attempt: its first row."""

    def step(
        self,
        progress: Progress,
        figures: StepFigures,
        flags: Flags,
        usage: StepUsage,
    ) -> None:
        """Record a finished step; `flags` are set if its update was skipped."""

    def validation(self, step: int, loss: float, samples: Sequence[Sample], seconds: float) -> None:
        """Record a validation after `step` steps, and the samples of it."""

    def checkpoint(self, saved: Saved, blocked: float) -> None:
        """Record a committed checkpoint that blocked training for `blocked` seconds."""

    def save_failed(self, saved: Saved) -> None:
        """Record a failed save."""

    def bad_step(self, step: int, what: str, action: Literal["skip", "stop"]) -> None:
        """Record a bad step that was skipped, or that stops the run."""

    def roll_back(self, step: int, what: str, progress: Progress) -> None:
        """Record a rollback after a bad step: rows beyond `progress.step` no longer count."""

    def sync(self) -> None:
        """Make the rows durable. Raises OSError."""

    def close(self, result: Result) -> None:
        """Record the end. Rows that MLflow still lacks are published by the next attempt."""


class LedgerRecorder(Recorder):
    """Rank 0's recorder: writes each row to the ledger first, then to its views."""

    def __init__(
        self, context: Context, start: Start, batches: Batches, tokens_per_byte: float | None
    ) -> None:
        run, recipe, attempt = context.run, context.recipe, context.attempt
        self._met = context.collectives.joined
        self._gpus = GpuReadings() if context.device.is_gpu else None
        self._model, self._batches, self._start = recipe.model, batches, start
        self._tokens_per_byte = tokens_per_byte
        self._accelerator = context.cluster.training.accelerator
        self._flops = 0.0  # of a token
        self._journal = Journal()
        self._run, self._attempt = run, attempt
        self._rows = ledger.Ledger(attempt)
        tracking = recipe.tracking
        self._drawer = Drawer(run, recipe, attempt) if tracking.tensorboard else None
        beside = tracking.mlflow is not None and tracking.mlflow_by == "job"
        self._publishing = Publishing(run) if beside else None

    def begin(self, rates: schedule.Schedule, parameters: int, exact: Exactness) -> None:
        """See `Recorder`."""
        self._flops = architectures.of(self._model).flops_per_token(parameters)
        before = node_time.before(self._run, self._attempt)
        fields: AttemptFields = {
            "step": self._start["from_step"],
            "steps": rates.end,
            "schedule": schedule.record(rates),
            "parameters": parameters,
            "training_tokens": len(self._batches.stream),
            "ranks": self._batches.ranks,
            "accumulation": self._batches.accumulation,
            "job": self._start["job"],
            "nodes": self._start.get("nodes", self._start["node"]),
            "met": self._met,
            "kept_seconds": before.kept_seconds,
            "held_seconds": before.held_seconds,
            "lost_steps": before.lost_steps,
            "numerics": exact.numerics,
            "inexact": [*exact.reasons],
        }
        fields.update(self._start.get("times", {}))  # type: ignore[typeddict-item]  # a part of its keys
        if self._run.origin.is_file():
            fields["origin"] = read_json(self._run.origin)
        self._publish(self._rows.add("attempt", **fields))
        for row in self._amendments():
            self._publish(self._rows.add("amendment", **self._amendment_fields(row)))

    def step(
        self,
        progress: Progress,
        figures: StepFigures,
        flags: Flags,
        usage: StepUsage,
    ) -> None:
        """See `Recorder`."""
        rate = self._batches.global_batch * self._batches.length / usage["seconds"]
        self._publish(
            self._rows.add(
                "step",
                step=progress.step,
                **figures,
                sample=progress.sample,
                tokens=progress.sample * self._batches.length,
                **flags,
                **usage,
                tokens_per_second=rate,
                mfu=self._mfu(rate),
            )
        )
        if self._gpus and (readings := self._gpus.take()):
            self._publish(self._rows.add("devices", step=progress.step, gpus=readings))

    def validation(self, step: int, loss: float, samples: Sequence[Sample], seconds: float) -> None:
        """See `Recorder`."""
        # Before the row that says that the validation is done.
        for sample in samples:
            row = self._rows.add("sample", step=step, prompt=sample.prompt, text=sample.text)
            self._publish(row)
        fields: ValidationFields = {"step": step, "validation_loss": loss, "seconds": seconds}
        if self._tokens_per_byte is not None:
            fields["bits_per_byte"] = loss / math.log(2) * self._tokens_per_byte
        self._publish(self._rows.add("validation", **fields))

    def checkpoint(self, saved: Saved, blocked: float) -> None:
        """See `Recorder`."""
        self._publish(
            self._rows.add(
                "checkpoint",
                step=saved.step,
                blocked=blocked,
                seconds=saved.seconds,
                rested=saved.rested,
                bytes=saved.bytes,
            )
        )
        if self._publishing:
            self._publishing.revive()

    def save_failed(self, saved: Saved) -> None:
        """See `Recorder`."""
        self._publish(self._rows.add("save_failed", step=saved.step, reason=saved.reason))

    def bad_step(self, step: int, what: str, action: Literal["skip", "stop"]) -> None:
        """See `Recorder`."""
        self._publish(self._rows.add("health", step=step, what=what, action=action))

    def roll_back(self, step: int, what: str, progress: Progress) -> None:
        """See `Recorder`."""
        passed_over = progress.passed_over[-1]
        self._publish(
            self._rows.add(
                "rollback", step=step, what=what, to_step=progress.step, passed_over=passed_over
            )
        )

    def sync(self) -> None:
        """See `Recorder`."""
        self._rows.sync()

    def close(self, result: Result) -> None:
        """See `Recorder`."""
        if self._gpus:
            self._gpus.close()
        self._publish(self._rows.add("end", **result))
        try:
            self._rows.close()
        except OSError as error:
            log.warning(f"{self._attempt.ledger}: {error.strerror}; its last rows are lost")
        if self._drawer:
            self._drawer.close()
        if self._publishing:
            done = result["outcome"] == "done"
            self._publishing.close(_TO_PUBLISH if done else _TO_PUBLISH_INTERRUPTED)

    def _publish(self, row: Row) -> None:
        """Show a row in the ledger's views."""
        self._journal.add(row)
        if self._drawer:
            self._drawer.add(row)

    def _amendments(self) -> list[amendments.Amendment]:
        """Amendments that this attempt is the first to apply."""
        before = [a for a in ledger.attempts(self._run) if a.number < self._attempt.number]
        applied = records.start(before[-1])["amendments"] if before else 0
        rows = amendments.read(self._run)[applied : self._start["amendments"]]
        return amendments.to_publish(rows)

    def _amendment_fields(self, row: amendments.Amendment) -> AmendmentFields:
        fields: AmendmentFields = {
            "step": self._start["from_step"],
            "amended": row["time"],
            "key": row["key"],
            "old": row["old"],
            "new": row["new"],
        }
        if "schedule" in row:
            fields["schedule"] = row["schedule"]
        if "cluster" in row:
            fields["cluster"] = row["cluster"]
        return fields

    def _mfu(self, tokens_per_second: float) -> float | None:
        """Model FLOPs utilisation, a share of the devices' peak; None if no accelerator is named."""
        if self._accelerator is None:
            return None
        peak = devices.ACCELERATORS[self._accelerator].peak_flops * self._batches.ranks
        return tokens_per_second * self._flops / peak
