"""A chart as inline SVG for an HTML page.

It is as wide as its place: lines stretch, letters and line widths do not. Colours are CSS variables of the
page, `--blue` and so on (`kit.output.charts.chart.COLOURS`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kit.output.charts import thin
from kit.output.charts.chart import Lines
from kit.output.escaped import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.output.charts.chart import Axis, Chart, Floats, Series, Span, Strips

_HEIGHT = 240  # of the field of lines, in pixels
_ROW, _BAR = 44, 20  # of a strip with its name, and of the strip alone
_WIDE, _HIGH = 2000, 1000  # of the coordinates inside the field
_MARKS_APART = 0.03  # of the width
_EDGED = 0.004  # of the width; wider spans are set apart by an edge
_LEAST_SPAN = 0.001  # of the width; narrower spans are drawn that wide


def drawn(chart: Chart) -> str:
    """A `figure` element: title, legend, and the picture with its axes."""
    is_lines = isinstance(chart, Lines)
    parts = _lines(chart) if isinstance(chart, Lines) else _strips(chart)
    height = _HEIGHT if isinstance(chart, Lines) else _ROW * len(chart.rows)
    label = escaped(f"{chart.title}. {chart.words}", 1000)
    legend = _legend(chart) if isinstance(chart, Lines) else ""
    note = f'<p class="note">{escaped(chart.note)}</p>' if chart.note else ""
    above = f'<p class="y-title">{escaped(chart.y.title)}</p>' if isinstance(chart, Lines) else ""
    return (
        f"<figure><figcaption>{escaped(chart.title)}</figcaption>{legend}{above}"
        f'<div class="{"field" if is_lines else "field strips"}">'
        f'<svg class="chart" role="img" aria-label="{label}" width="100%" height="{height}">'
        f"{''.join(parts)}</svg></div>"
        f'<p class="x-title">{escaped(chart.x.title)}</p>{note}</figure>\n'
    )


def _lines(chart: Lines) -> Iterator[str]:
    yield from _y_ticks(chart.y)
    yield from _x_ticks(chart.x, _HEIGHT)
    for place, symbol, words in chart.spaced_marks(_MARKS_APART):
        at = f"{100 * place:.2f}%"
        yield (
            f'<g class="mark"><title>{escaped(words)}</title>'
            f'<line x1="{at}" x2="{at}" y1="0" y2="{_HEIGHT}"/>'
            f'<text x="{at}" y="-4">{escaped(symbol)}</text></g>'
        )
    yield (
        f'<svg width="100%" height="{_HEIGHT}" viewBox="0 0 {_WIDE} {_HIGH}" '
        'preserveAspectRatio="none" overflow="visible">'
    )
    for series in chart.series:
        yield _path(chart, series)
    yield "</svg>"


def _path(chart: Lines, series: Series) -> str:
    x, y = thin.finite(chart.x.share(series.x), chart.y.share(series.y))
    across = np.rint(np.clip(x, 0, 1) * _WIDE).astype(int)
    down = np.rint((1 - np.clip(y, 0, 1)) * _HIGH).astype(int)
    points = [f"{a} {d}" for a, d in zip(across, down, strict=True)]
    if series.style == "points":
        d = "".join(f"M{point}h0" for point in points)
    else:
        d = f"M{'L'.join(points)}" if points else ""
    return (
        f'<path class="{series.style}" d="{d}" stroke="var(--{series.colour})">'
        f"<title>{escaped(series.name)}</title></path>"
    )


def _strips(chart: Strips) -> Iterator[str]:
    height = _ROW * len(chart.rows)
    yield from _x_ticks(chart.x, height)
    for number, (name, spans) in enumerate(chart.rows):
        top = number * _ROW
        yield f'<text class="row" x="0" y="{top + 14}">{escaped(name)}</text>'
        for span in spans:
            yield _rectangle(chart.x, span, top + _ROW - _BAR - 3)


def _rectangle(axis: Axis, span: Span, top: int) -> str:
    begin, end = np.clip(axis.share(np.array([span.begin, span.end])), 0, 1)
    width = max(float(end - begin), _LEAST_SPAN)
    kind = ' class="edged"' if width > _EDGED else ""
    return (
        f'<rect{kind} x="{100 * begin:.2f}%" width="{100 * width:.2f}%" y="{top}" height="{_BAR}" '
        f'fill="var(--{span.colour})"><title>{escaped(span.words)}</title></rect>'
    )


def _y_ticks(axis: Axis) -> Iterator[str]:
    for place, label in _places(axis):
        y = _HEIGHT * (1 - place)
        yield f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="y" x="-8" y="{y + 4:.1f}">{escaped(label)}</text>'


def _x_ticks(axis: Axis, height: int) -> Iterator[str]:
    yield f'<line class="axis" x1="0" x2="100%" y1="{height}" y2="{height}"/>'
    for number, (place, label) in enumerate(_places(axis)):
        at = f"{100 * place:.2f}%"
        hidden = " odd" if number % 2 else ""  # on a narrow screen
        yield f'<line class="axis" x1="{at}" x2="{at}" y1="{height}" y2="{height + 5}"/>'
        yield f'<text class="x{hidden}" x="{at}" y="{height + 19}">{escaped(label)}</text>'


def _places(axis: Axis) -> list[tuple[float, str]]:
    shares: Floats = axis.share(np.array([value for value, _ in axis.ticks], np.float64))
    labels = [label for _, label in axis.ticks]
    return [(float(share), label) for share, label in zip(shares, labels, strict=True)]


def _legend(chart: Lines) -> str:
    items = "".join(
        f'<li><svg width="22" height="10" aria-hidden="true"><path class="{one.style}" '
        f'd="{"M11 5h0" if one.style == "points" else "M1 5L21 5"}" stroke="var(--{one.colour})"/>'
        f"</svg>{escaped(one.name)}</li>"
        for one in chart.series
    )
    return f'<ul class="legend">{items}</ul>' if len(chart.series) > 1 else ""
