"""The curve of a run as one event file of TensorBoard, to be published with the model.

    write(run, recipe, None, folder / "runs")

Every step and validation of the canonical ledger is drawn once, under the tags of the live files
(kit/tracking/tensorboard.py) and at the time at which it ended; with them the samples, the recipe without
paths and secrets, and the hyperparameters. Readings of GPUs and names of nodes stay out. Equal ledgers give
equal bytes.

The Hub shows the tab "Training metrics" for a repository that holds a file of this name anywhere
(huggingface.co/docs/hub/tensorboard).
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from kit.config import relocation
from kit.store import records
from kit.store.files import atomic
from kit.tracking import ledger, summaries, tensorboard
from kit.tracking.node_time import Account, NodeTime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.tracking.rows import CurveRow, Row, SampleRow

    Totals = dict[tuple[int, int], NodeTime]

MOST = 100_000  # steps that are drawn: 35 MB. TensorBoard's page shows 1,000 of a curve


def write(run: Run, recipe: Recipe, last: int | None, folder: Path, most: int = MOST) -> None:
    """Write the file into a folder; `last`: the step of a release made before the end.

    Of a longer run every second step is drawn, or every third, and so on, up to `most`.
    """
    first = ledger.attempts(run)[0]
    began = records.start(first)["time"]
    name = f"events.out.tfevents.{int(began):010d}.{recipe.name}"
    totals: Totals = {}
    curve = ledger.fold(
        (records.start(one)["from_step"], _counted(one, totals)) for one in ledger.attempts(run)
    )
    until = float("inf") if last is None else last
    rows = _thinned([row for row in curve if row["step"] <= until], most)
    with atomic(folder / name) as out:
        file = _Events(out)
        file.begin(recipe, run.root.name, began)
        file.draw(rows, totals, ledger.samples(run))
        if last is None and rows:
            file.end(rows[-1])


def _counted(attempt: Attempt, totals: Totals) -> Iterator[Row]:
    """The rows of an attempt; the node time at each of its validations is added to `totals`."""
    start = records.start(attempt)
    account = Account(NodeTime(), start)
    for row in ledger.rows(attempt):
        if row["kind"] == "attempt":
            account = Account(NodeTime.from_row(row) or NodeTime(), start)
        account.add(row)
        if row["kind"] == "validation":
            totals[row["attempt"], row["step"]] = account.until(row["time"])
        yield row


def _thinned(curve: Sequence[CurveRow], most: int) -> list[CurveRow]:
    """The curve with `most` steps at most, the last one among them, and with all validations."""
    steps = sum(row["kind"] == "step" for row in curve)
    every = -(-steps // most) or 1
    last = curve[-1]["step"] if curve else 0
    return [row for row in curve if row["kind"] != "step" or (last - row["step"]) % every == 0]


class _Events:
    """An event file that is being written."""

    def __init__(self, out: IO[bytes]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._records = Event, RecordWriter(out)

    def begin(self, recipe: Recipe, name: str, began: float) -> None:
        """Write what precedes the first step."""
        tree = relocation.for_release(recipe.model_dump(mode="json"))
        hparams = summaries.hparams_start(recipe, name, began)
        self._write(self._event(wall_time=began, file_version="brain.Event:2"))
        self._show(0, began, [summaries.tree_text(tree), *map(_in_order, hparams)])

    def draw(self, curve: Sequence[CurveRow], totals: Totals, samples: Sequence[SampleRow]) -> None:
        """Write the rows of a curve, the samples of each validation before it."""
        written: dict[int, list[SampleRow]] = {}
        for sample in samples:
            written.setdefault(sample["step"], []).append(sample)
        for row in curve:
            values = [_scalar(tag, number) for tag, number in tensorboard.scalars(row).items()]
            if row["kind"] == "validation":
                total = totals[row["attempt"], row["step"]]
                values += [_scalar(*one) for one in tensorboard.of_nodes(total).items()]
                for sample in written.get(row["step"], []):
                    self._show(row["step"], sample["time"], [summaries.sample_text(sample)])
            self._show(row["step"], row["time"], values)

    def end(self, last: CurveRow) -> None:
        """Write that the run is done."""
        self._show(last["step"], last["time"], [summaries.hparams_end(last["time"])])

    def _show(self, step: int, wall_time: float, values: Sequence[Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        if values:
            self._write(self._event(wall_time=wall_time, step=step, summary=Summary(value=values)))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString(deterministic=True))


def _scalar(tag: str, number: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.Value(tag=tag, simple_value=number)


def _in_order(value: Any) -> Any:
    """A Summary.Value of hyperparameters, whose maps are written in the order of their keys."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    plugin = value.metadata.plugin_data
    plugin.content = HParamsPluginData.FromString(plugin.content).SerializeToString(
        deterministic=True
    )
    return value
