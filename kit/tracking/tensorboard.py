"""TensorBoard as a view of the ledger: one event file per attempt, every step drawn once.

Each file begins with a session start at the attempt's first step, from which TensorBoard drops the
contents of earlier files. Files are named by attempt, since readers take them in the order of their
names, and the clocks of nodes differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.store.paths import Run
    from kit.tracking.rows import Row

_SCALARS = {
    "step": ("loss", "learning_rate", "gradient_norm", "loss_scale", "tokens_per_second", "mfu"),
    "validation": ("validation_loss",),
}


def scalars(row: Row) -> dict[str, float]:
    """The values of a row to draw, by tag."""
    values: dict[str, Any] = {key: row.get(key) for key in _SCALARS.get(row["kind"], ())}
    return {f"train/{key}": value for key, value in values.items() if value is not None}


class EventFile:
    """The event file of one attempt."""

    def __init__(self, run: Run, attempt: int, from_step: int, began: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        run.tensorboard.mkdir(parents=True, exist_ok=True)
        path = run.tensorboard / f"events.out.tfevents.{attempt:010d}.attempt-{attempt:04d}"
        self._event = Event
        self._records = RecordWriter(path.open("wb"))
        self._write(Event(wall_time=began, file_version="brain.Event:2"))
        self._start(from_step, began)

    def add(self, row: Row) -> None:
        """Draw a row of the ledger."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if row["kind"] == "rollback":
            self._start(row["to_step"], row["time"])
        values = [Summary.Value(tag=tag, simple_value=y) for tag, y in scalars(row).items()]
        if values:
            summary = Summary(value=values)
            self._write(self._event(wall_time=row["time"], step=row["step"], summary=summary))

    def close(self) -> None:
        """Flush and close."""
        self._records.close()

    def _start(self, step: int, wall_time: float) -> None:
        """Make TensorBoard drop the points beyond a step."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        start = SessionLog(status=SessionLog.START)
        self._write(self._event(wall_time=wall_time, step=step + 1, session_log=start))

    def _write(self, event: object) -> None:
        self._records.write(event.SerializeToString())  # type: ignore[attr-defined]
        self._records.flush()
