"""A curve as lines of text, in braille characters: two dots wide and four dots high in each.

    plot(steps, losses, 80, 12, attempts={1: 0, 2: 4_000}, validations=[(1000, 3.4)])

Below the curve lie its axis with the steps, and a line with the attempts where they start. Pure functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VALIDATION = "o"  # stands for a validation in the curve
AXES = 3  # lines below the curve
SMALLEST = 3  # lines of a curve
_GUTTER = 9  # columns left of the curve: a label and the axis
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column and row, from the top
_STEEP = 0.1  # share of the steps at the begin whose losses may lie above the plot
_APART = 4  # columns of which only one has a validation, so that the line is seen
_TICK = 12  # columns from one labelled step to the next, at least


def plot(
    steps: Sequence[int],
    values: Sequence[float | None],
    width: int,
    height: int,
    *,
    attempts: Mapping[int, int] | None = None,
    validations: Sequence[tuple[int, float | None]] = (),
) -> list[str]:
    """Draw values over steps into `height` lines, none wider than `width`; none if there is no room.

    `attempts`: the step that each one starts from, by number. A value that is None leaves a gap. The
    losses of the first tenth of the steps may be cut off at the top, so that the rest can be seen.
    """
    columns, rows = width - _GUTTER, height - AXES
    known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if not known or columns < _TICK or rows < SMALLEST:
        return []
    first, last = steps[0], max(steps[-1], steps[0] + 1)
    held_out = [(s, v) for s, v in validations if v is not None and first <= s <= last]
    low, high = _limits(known, held_out, first, last)

    def column(step: int, of: int) -> int:
        return round((step - first) / (last - first) * (of - 1))

    def row(value: float, of: int) -> int:
        return round((high - value) / (high - low) * (of - 1))

    points = [
        None if v is None or v > high else (column(s, 2 * columns), row(v, 4 * rows))
        for s, v in zip(steps, values, strict=True)
    ]
    cells = _braille(points, columns, rows)
    apart = {column(s, columns) // _APART: (s, v) for s, v in held_out if low <= v <= high}
    for step, value in apart.values():
        cells[row(value, rows)][column(step, columns)] = VALIDATION
    ticks = {column(step, columns): f"{step:,}" for step in _ticks(first, last, columns // _TICK)}
    marks = {
        column(max(first, step), columns): str(number)
        for number, step in (attempts or {}).items()
        if step <= last
    }
    axis = "".join("┴" if at in ticks else "─" for at in range(columns))
    return [
        *_labelled(cells, low, high),
        f"{'└':>{_GUTTER}}{axis}",
        f"{'step':>{_GUTTER - 2}}  {_labels(ticks, columns)}",
        f"{'attempt':>{_GUTTER - 2}}  {_labels(marks, columns, instead='·')}",
    ]


def _limits(
    known: Sequence[tuple[int, float]],
    held_out: Sequence[tuple[int, float]],
    first: int,
    last: int,
) -> tuple[float, float]:
    """The lowest and the highest value that the plot shows."""
    every = (*known, *held_out)
    steady = [v for s, v in every if s >= first + _STEEP * (last - first)]
    low, above = min(v for _, v in every), max(v for _, v in every)
    high = max(steady, default=above)
    if above - low < 3 * (high - low):  # not steep
        high = above
    margin = max(1e-3, abs(low) * 1e-3) if high - low < 1e-9 else 0.0
    return low - margin, high + margin


def _braille(points: Sequence[tuple[int, int] | None], columns: int, rows: int) -> list[list[str]]:
    """Cells with a line through points (x, y), in dots from the upper left corner."""
    dots = [[0] * columns for _ in range(rows)]
    before: tuple[int, int] | None = None
    for point in points:
        if point is not None:
            for x, y in _line(before or point, point):
                dots[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
        before = point
    return [[chr(0x2800 + cell) if cell else " " for cell in line] for line in dots]


def _line(begin: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots between two points, both included."""
    number = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1)
    return [
        (
            round(begin[0] + (end[0] - begin[0]) * at / number),
            round(begin[1] + (end[1] - begin[1]) * at / number),
        )
        for at in range(number + 1)
    ]


def _labelled(cells: Sequence[Sequence[str]], low: float, high: float) -> list[str]:
    """The lines of the curve, with values at the top, in the middle and at the bottom."""
    bottom = len(cells) - 1
    at = {bottom // 2: (high - (high - low) * (bottom // 2) / bottom), 0: high, bottom: low}
    return [
        (f"{_value(at[row]):>{_GUTTER - 2}} ┤" if row in at else f"{'│':>{_GUTTER}}")
        + "".join(line).rstrip()
        for row, line in enumerate(cells)
    ]


def _value(value: float) -> str:
    exact = f"{value:.3f}"
    return exact if len(exact) <= _GUTTER - 2 else f"{value:.0e}"


def _ticks(first: int, last: int, number: int) -> list[int]:
    """At most that number of round steps, between two."""
    rough = max(1.0, (last - first) / max(1, number))
    power = 10 ** math.floor(math.log10(rough))
    apart = next(int(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
    return list(range(-(-first // apart) * apart, last + 1, apart))


def _labels(labels: Mapping[int, str], columns: int, instead: str = "") -> str:
    """Labels that begin at their columns; one without room is left out, or a sign stands for it."""
    line = [" "] * columns
    free = 0
    for at in sorted(labels):
        label = labels[at]
        begin = min(at, columns - len(label))
        if begin >= free:
            line[begin : begin + len(label)] = label
            free = begin + len(label) + 1
        elif instead and line[at] == " ":
            line[at] = instead
            free = max(free, at + 1)
    return "".join(line).rstrip()
