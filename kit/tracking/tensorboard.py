"""TensorBoard as a view of the ledger: one event file per attempt, every step drawn once.

Each file begins with a session start at the attempt's first step, from which TensorBoard drops the
contents of earlier files. Files are named by attempt, since readers take them in the order of their
names, and the clocks of nodes differ. A killed attempt leaves rows that it never drew: the next file
begins with them.

The text of a run: its recipe, a table of its attempts at the first step of each, its amendments, and the
samples of each validation.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from kit.store import records
from kit.tracking import attempt_table, event_files, summaries
from kit.tracking.node_time import Account, NodeTime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.config.recipe import Recipe
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.tracking.event_files import Lack
    from kit.tracking.rows import GpuReading, Row

_SCALARS = {
    "step": (
        "loss", "z_loss", "learning_rate", "gradient_norm", "loss_scale", "tokens", "tokens_per_second",
        "mfu", "memory_bytes", "reserved_bytes", "data_seconds", "slowest_behind",
    ),
    "validation": ("validation_loss", "bits_per_byte"),
}  # fmt: skip

_GPUS: Sequence[tuple[str, str, Callable[[list[float]], float]]] = (
    ("utilisation", "utilisation", statistics.fmean),
    ("hottest", "temperature", max),
    ("power", "power", sum),
    ("lowest_clock", "clock", min),
    ("memory_bytes", "memory_bytes", max),
)


def scalars(row: Row) -> dict[str, float]:
    """The values of a row to draw, by tag."""
    values: dict[str, Any] = {key: row.get(key) for key in _SCALARS.get(row["kind"], ())}
    return {f"train/{key}": value for key, value in values.items() if value is not None}


def of_nodes(total: NodeTime) -> dict[str, float]:
    """Goodput and lost steps at a validation, by tag; none if no node was held yet."""
    if total.goodput is None:
        return {}
    return {"train/goodput": total.goodput, "train/lost_steps": total.lost_steps}


class EventFile:
    """The event file of one attempt."""

    def __init__(self, run: Run, recipe: Recipe, attempt: Attempt) -> None:
        """Create it, or begin it again; its own rows are to be added. Raises OSError."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._run, self._attempt, self._start = run, attempt, records.start(attempt)
        run.tensorboard.mkdir(parents=True, exist_ok=True)
        earlier = sorted(
            path for path in event_files.of_run(run) if path.name < event_files.name(attempt)
        )
        undrawn = list(event_files.undrawn(run, attempt, earlier))
        self._event = Event
        self._records = RecordWriter((run.tensorboard / event_files.name(attempt)).open("wb"))
        began, from_step = self._start["time"], self._start["from_step"]
        self._write(Event(wall_time=began, file_version="brain.Event:2"))
        if not earlier:
            first = records.start(undrawn[0].attempt)["from_step"] if undrawn else from_step
            hparams = summaries.hparams_start(recipe, run.root.name, began)
            self._show(first, began, [summaries.recipe_text(recipe), *hparams])
        for one in undrawn:
            self._draw_again(one)
        self._begin(attempt)
        self._go_back(from_step, began)

    def add(self, row: Row) -> None:
        """Draw a row of the ledger."""
        self._count(row)
        if row["kind"] == "rollback":
            self._go_back(row["to_step"], row["time"])
        values = [self._value(tag, number) for tag, number in self._scalars(row).items()]
        values += self._texts(row)
        if values:
            self._show(row["step"], row["time"], values)

    def flush(self) -> None:
        """Hand everything to the system. Raises OSError."""
        self._records.flush()

    def close(self) -> None:
        """Flush and close. Raises OSError."""
        self._records.close()

    def _draw_again(self, lack: Lack) -> None:
        """Draw the rows of an earlier attempt that its own file lacks."""
        self._begin(lack.attempt)
        if lack.drawn == 0:
            start = records.start(lack.attempt)
            self._go_back(start["from_step"], start["time"])
        for row in lack.rows[: lack.drawn]:
            self._count(row)
        for row in lack.rows[lack.drawn :]:
            self.add(row)

    def _begin(self, attempt: Attempt) -> None:
        """Take the rows that follow for those of an attempt."""
        self._of = attempt
        self._account = Account(NodeTime(), records.start(attempt))

    def _count(self, row: Row) -> None:
        if row["kind"] == "attempt":
            before = NodeTime.from_row(row) or NodeTime()
            self._account = Account(before, records.start(self._of))
        self._account.add(row)

    def _scalars(self, row: Row) -> dict[str, float]:
        values = scalars(row)
        if row["kind"] == "devices":
            values |= _of_gpus(row["gpus"])
        if row["kind"] == "validation":
            values |= of_nodes(self._account.until(row["time"]))
        return values

    def _texts(self, row: Row) -> Iterator[Any]:
        if row["kind"] == "attempt":
            yield summaries.text("attempts", attempt_table.table(self._run, self._of, "running"))
        elif row["kind"] == "amendment":
            change = f"{row['key']}: {row['old']} -> {row['new']}"
            yield summaries.text(f"amendments/{row['key']}", summaries.fenced(change))
        elif row["kind"] == "sample":
            yield summaries.sample_text(row)
        elif row["kind"] == "end" and row["outcome"] != "interrupted":
            reason = f": {row['reason']}" if row["reason"] else ""
            ended = f"{row['outcome']} at step {row['step']:,}{reason}"
            table = attempt_table.table(self._run, self._of, ended)
            yield summaries.text("attempts", table)
            if row["outcome"] == "done":
                yield summaries.hparams_end(row["time"])

    def _value(self, tag: str, number: float) -> Any:
        from tensorboard.compat.proto.summary_pb2 import Summary

        return Summary.Value(tag=tag, simple_value=number)

    def _show(self, step: int, wall_time: float, values: Sequence[Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(self._event(wall_time=wall_time, step=step, summary=Summary(value=values)))

    def _go_back(self, step: int, wall_time: float) -> None:
        """Make TensorBoard drop the points beyond a step."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        start = SessionLog(status=SessionLog.START)
        self._write(self._event(wall_time=wall_time, step=step + 1, session_log=start))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())


def _of_gpus(gpus: Sequence[GpuReading]) -> dict[str, float]:
    """One value for all GPUs of a node: the mean of a share, the sum of power, the hottest, the slowest."""
    values: dict[str, float] = {}
    for tag, key, combine in _GPUS:
        known = [one for gpu in gpus if isinstance(one := gpu.get(key), int | float)]
        if known:
            values[f"gpus/{tag}"] = combine(known)
    return values
