"""Charts as a picture file, by matplotlib: a PNG for slides, mails and the model card, or an SVG.

Equal charts give equal bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kit.output.charts import thin
from kit.output.charts.chart import COLOURS, Lines

if TYPE_CHECKING:
    from typing import IO

    from kit.output.charts.chart import Axis, Chart, Strips

FORMS = ("png", "svg")
_WIDTH, _HEIGHT, _DOTS = 9.0, 4.0, 120  # inches, of lines; dots per inch: 1080 pixels wide
_ROW, _AROUND = 0.5, 1.3  # inches: a strip, and the axis with the title
_STYLES: dict[str, dict[str, Any]] = {
    "line": {"linewidth": 1.6},
    "faint": {"linewidth": 0.7, "alpha": 0.45},
    "points": {"linestyle": "none", "marker": "o", "markersize": 4},
    "dashed": {"linewidth": 1.3, "linestyle": "--"},
}
_MARKS_APART = 0.02  # of the width
_METADATA: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}}


def save(*charts: Chart, out: IO[bytes], form: Literal["png", "svg"] = "png") -> None:
    """Draw charts below one another and write them to a binary stream."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    heights = [_height(chart) for chart in charts]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(charts), 1, height_ratios=heights)
    for number, chart in enumerate(charts):
        axes = figure.add_subplot(grid[number])
        (_lines if isinstance(chart, Lines) else _strips)(chart, axes)  # type: ignore[arg-type]
        axes.set_title(chart.title, loc="left", pad=18 if isinstance(chart, Lines) else 6)
        axes.spines[["top", "right"]].set_visible(False)
        _x_axis(chart.x, axes)
    with mpl.rc_context({"svg.hashsalt": "ekiden"}):  # names of its parts, random by default
        figure.savefig(out, format=form, dpi=_DOTS, metadata=_METADATA[form])


def _height(chart: Chart) -> float:
    return _HEIGHT if isinstance(chart, Lines) else _ROW * len(chart.rows) + _AROUND


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
