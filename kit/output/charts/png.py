"""A chart as a PNG file, by matplotlib: for slides, mails and the model card.

Equal charts give equal bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.output.charts import thin
from kit.output.charts.chart import COLOURS, Lines

if TYPE_CHECKING:
    from typing import IO

    from kit.output.charts.chart import Axis, Chart, Strips

_INCHES, _DOTS = (9.0, 4.0), 120  # of a figure of lines; 1080 pixels wide
_STYLES: dict[str, dict[str, Any]] = {
    "line": {"linewidth": 1.6},
    "faint": {"linewidth": 0.7, "alpha": 0.45},
    "points": {"linestyle": "none", "marker": "o", "markersize": 4},
    "dashed": {"linewidth": 1.3, "linestyle": "--"},
}
_MARKS_APART = 0.02  # of the width


def save(chart: Chart, out: IO[bytes]) -> None:
    """Draw a chart and write it to a binary stream."""
    from matplotlib.figure import Figure

    rows = 0 if isinstance(chart, Lines) else len(chart.rows)
    size = (_INCHES[0], 0.5 * rows + 1.3) if rows else _INCHES
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    if isinstance(chart, Lines):
        _lines(chart, axes)
    else:
        _strips(chart, axes)
    axes.set_title(chart.title, loc="left", pad=18 if isinstance(chart, Lines) else 6)
    axes.spines[["top", "right"]].set_visible(False)
    _x_axis(chart.x, axes)
    figure.savefig(out, format="png", dpi=_DOTS, metadata={"Software": None})


def _lines(chart: Lines, axes: Any) -> None:
    for series in chart.series:
        x, y = thin.finite(series.x, series.y)
        colour = COLOURS[series.colour][0]
        axes.plot(x, y, color=colour, label=series.name, **_STYLES[series.style])
    for place, symbol, _ in chart.spaced_marks(_MARKS_APART):
        at = chart.x.low + place * (chart.x.high - chart.x.low)
        axes.axvline(at, color="0.6", linewidth=0.6, zorder=0)
        axes.annotate(
            symbol, (place, 1.0), xycoords="axes fraction", xytext=(0, 2),
            textcoords="offset points", ha="center", fontsize=8, color="0.35",
        )  # fmt: skip
    if chart.y.logarithmic:
        axes.set_yscale("log")
        axes.minorticks_off()
    axes.set_ylim(chart.y.low, chart.y.high)
    axes.set_yticks([value for value, _ in chart.y.ticks], [text for _, text in chart.y.ticks])
    axes.set_ylabel(chart.y.title)
    axes.grid(axis="y", linewidth=0.4, color="0.85")
    if len(chart.series) > 1:
        axes.legend(frameon=False)


def _strips(chart: Strips, axes: Any) -> None:
    for number, (_, spans) in enumerate(chart.rows):
        axes.broken_barh(
            [(span.begin, span.end - span.begin) for span in spans],
            (number - 0.35, 0.7),
            facecolors=[COLOURS[span.colour][0] for span in spans],
        )
    axes.set_yticks(range(len(chart.rows)), [name for name, _ in chart.rows])
    axes.set_ylim(len(chart.rows) - 0.4, -0.6)


def _x_axis(axis: Axis, axes: Any) -> None:
    axes.set_xlim(axis.low, axis.high)
    axes.set_xticks([value for value, _ in axis.ticks], [text for _, text in axis.ticks])
    axes.set_xlabel(axis.title)
