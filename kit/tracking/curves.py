"""The curve of a run as columns, and its loss as a chart: for the report and the model card.

curve = columns(ledger.canonical(run), tokens_a_step)
loss_chart(curve)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from kit.output.charts import thin, ticks
from kit.output.charts.chart import Lines, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from kit.config.recipe import Recipe
    from kit.output.charts.chart import Axis, Floats, Mark
    from kit.store.attempt_paths import Attempt
    from kit.tracking.rows import CurveRow, ValidationRow

_STEP = b'{"kind": "step"'  # as the ledger writes it
_POINTS = 60  # validations that are drawn as points; more are a line
_UNIT = "nats a token"
_LATE = 200  # steps of which a chart of their own is worth its place
_SPIKY = 8.0  # a loss that many times the median needs a logarithmic axis


@dataclass(frozen=True)
class Columns:
    """Each step and validation of a run once, in order; what is null in the ledger is NaN."""

    step: Floats
    time: Floats  # Unix time at which the step ended
    tokens: Floats  # seen by the end of the step
    loss: Floats  # nats a token
    learning_rate: Floats
    tokens_per_second: Floats
    validated: Floats  # the steps at which the held-out part was scored
    validation_tokens: Floats
    validation_loss: Floats  # nats a token


def columns(rows: Iterable[CurveRow], recipe: Recipe) -> Columns:
    """The rows of a curve, read once."""
    steps: list[tuple[float | None, ...]] = []
    validations: list[ValidationRow] = []
    for row in rows:
        if row["kind"] == "step":
            more = row.get("learning_rate"), row.get("sample"), row.get("tokens_per_second")
            steps.append((row["step"], row["time"], row.get("loss"), *more))
        elif row["kind"] == "validation":
            validations.append(row)
    step, time, loss, learning_rate, sample, rate = (
        np.array(steps, np.float64).reshape(-1, 6).T  # None becomes NaN
    )
    return assembled(step, time, loss, rate, learning_rate, sample, validations, recipe)


def assembled(
    step: Floats,
    time: Floats,
    loss: Floats,
    rate: Floats,
    learning_rate: Floats,
    sample: Floats,
    validations: Sequence[ValidationRow],
    recipe: Recipe,
) -> Columns:
    """The columns of a curve; `sample` counts the samples by the end of a step, NaN if it is not known."""
    samples = np.where(np.isfinite(sample), sample, step * recipe.training.global_batch)
    tokens = samples * recipe.model.n_positions
    at = np.array([row["step"] for row in validations], np.float64)
    # A validation before the first step has seen no tokens.
    seen = np.interp(at, np.concatenate([[0.0], step]), np.concatenate([[0.0], tokens]))
    held_out = np.array([row["validation_loss"] for row in validations], np.float64)
    return Columns(step, time, tokens, loss, learning_rate, rate, at, seen, held_out)


class _More(msgspec.Struct, gc=False):
    """Keys of a step that kit/tracking/columns.py leaves out."""

    step: int
    learning_rate: float | None = None
    sample: int | None = None


_decoder = msgspec.json.Decoder(_More)


def rates_and_samples(attempt: Attempt, steps: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Learning rate, and the number of samples by its end, of the first steps of an attempt's ledger.

    `steps` are the numbers of these steps; NaN for all of them if the ledger has others, or is damaged.
    """
    unknown = np.full(len(steps), np.nan)
    try:
        with attempt.ledger.open("rb") as stream:
            lines = (line for line in stream if line.startswith(_STEP) and line.endswith(b"\n"))
            rows = [_decoder.decode(line) for line in itertools.islice(lines, len(steps))]
    except (OSError, msgspec.MsgspecError):
        return unknown, unknown
    if [row.step for row in rows] != steps.tolist():
        return unknown, unknown
    return (
        np.array([row.learning_rate for row in rows], np.float64),
        np.array([row.sample for row in rows], np.float64),
    )


def loss_chart(curve: Columns, marks: Sequence[Mark] = (), note: str = "") -> Lines:
    """Training loss, every spike kept, its median, and the validation loss, over tokens."""
    x, y = thin.envelope(curve.tokens, curve.loss)
    middle_x, middle_y = thin.medians(curve.tokens, curve.loss)
    held_out = thin.envelope(curve.validation_tokens, curve.validation_loss)
    training = "training, least and greatest" if len(x) < len(curve.tokens) else "training"
    series = [Series(training, "blue", x, y, "faint" if len(middle_x) else "line")]
    if len(middle_x):
        series.append(Series("training, median", "blue", middle_x, middle_y))
    if len(held_out[0]):
        few = len(held_out[0]) <= _POINTS
        series.append(Series("validation", "red", *held_out, "points" if few else "line"))
    words = f"{len(curve.step):,} steps"
    if len(y):
        words += f", from {y[0]:.3f} to {y[-1]:.3f} nats a token, at least {y.min():.3f}"
    if len(held_out[0]):
        words += f"; validation loss {held_out[1][-1]:.3f} at the last of {len(held_out[0]):,}"
    axis = _loss_axis(np.concatenate([y, held_out[1]]))
    return Lines("Loss", f"{words}.", tokens_axis(curve), axis, series, marks, note)


def late_loss_chart(curve: Columns, marks: Sequence[Mark] = ()) -> Lines | None:
    """The same without the first tenth, on an axis of the usual losses; None for a short run.

    Losses beyond the axis are drawn at its edge.
    """
    late = curve.tokens >= curve.tokens[-1] / 10 if len(curve.tokens) else curve.tokens > 0
    usual = curve.loss[late & np.isfinite(curve.loss)]
    if len(usual) < _LATE:
        return None
    whole = loss_chart(curve, marks)
    low = float(np.quantile(usual, 0.001, method="higher"))
    high = float(np.quantile(usual, 0.999, method="lower"))
    room = 0.1 * (high - low)
    x = ticks.numbers(whole.x.title, float(curve.tokens[-1]) / 10, float(curve.tokens[-1]))
    y = ticks.numbers(_UNIT, low - room, high + room)
    return Lines(
        "Loss after the first tenth", f"Mostly from {low:.3f} to {high:.3f} nats a token.", x, y,
        [_after(one, x.low) for one in whole.series], [m for m in marks if m.x >= x.low],
        "Losses beyond the axis are drawn at its edge.",
    )  # fmt: skip


def _after(series: Series, begin: float) -> Series:
    late = series.x >= begin
    return Series(series.name, series.colour, series.x[late], series.y[late], series.style)


def tokens_axis(curve: Columns) -> Axis:
    """The axis of tokens seen, from none."""
    last = float(curve.tokens[-1]) if len(curve.tokens) else 1.0
    return ticks.numbers("tokens seen", 0.0, last)


def _loss_axis(values: Floats) -> Axis:
    if not len(values):
        return ticks.numbers(_UNIT, 0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > _SPIKY * float(np.median(values)):
        return ticks.powers(f"{_UNIT}, logarithmic", low * 0.9, high * 1.1)
    room = 0.04 * (high - low)
    return ticks.numbers(_UNIT, low - room, high + room)
