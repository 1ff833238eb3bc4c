"""The charts of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kit.output.charts import thin, ticks
from kit.output.charts.chart import Lines, Series, Span, Strips
from kit.output.quantities import duration
from kit.plan.buckets import BUCKETS, COLOURS
from kit.tracking import curves
from kit.watch.goodput import DAY
from kit.watch.report import ends
from kit.watch.report.timeline import timeline

if TYPE_CHECKING:
    from kit.output.charts.chart import Chart
    from kit.watch.report.content import Content
    from kit.watch.view import Facts

_SOME = 0.0005  # share of a bucket that is drawn


def all_charts(content: Content) -> dict[str, Chart]:
    """The charts that the run has figures for, by the names of their files."""
    found: dict[str, Chart] = {}
    if len(content.curve.step):
        found["loss"] = curves.loss_chart(content.curve, ends.marks(content), ends.note(content))
        if late := curves.late_loss_chart(content.curve, ends.marks(content)):
            found["late-loss"] = late
        found["learning-rate"] = _learning_rate(content)
        if np.isfinite(content.curve.tokens_per_second).any():
            found["throughput"] = _throughput(content)
        found["progress"] = _progress(content)
    if content.facts["goodput"]["seconds"] > 0:
        found["goodput"] = _goodput(content.facts["goodput"])
    if content.attempts:
        found["timeline"] = timeline(content)
    return found


def _learning_rate(content: Content) -> Lines:
    curve = content.curve
    x, y = thin.envelope(curve.tokens, curve.learning_rate, 400)
    high = float(y.max()) if len(y) else 1.0
    words = f"At most {high:.3g}, {y[-1]:.3g} at the last step." if len(y) else ""
    return Lines(
        "Learning rate",
        words,
        curves.tokens_axis(curve),
        ticks.numbers("learning rate", 0.0, high * 1.05),
        [Series("learning rate", "green", x, y)],
    )


def _throughput(content: Content) -> Lines:
    curve = content.curve
    x, y = thin.envelope(curve.tokens, curve.tokens_per_second)
    middle = thin.medians(curve.tokens, curve.tokens_per_second)
    series = [Series("of a step", "blue", x, y, "faint" if len(middle[0]) else "line")]
    if len(middle[0]):
        series.append(Series("median", "blue", *middle))
    words = f"{np.median(y):,.0f} tokens a second at the median."
    axis = ticks.numbers("tokens a second", 0.0, float(y.max()) * 1.05)
    return Lines("Throughput", words, curves.tokens_axis(curve), axis, series, ends.marks(content))


def without_interruption(content: Content) -> tuple[float, float] | None:
    """When a run without an interruption begins and ends, each step taking the median time."""
    curve, steps = content.curve, content.training["steps"]
    if not len(curve.step) or not content.usual or not steps:
        return None
    begin = float(curve.time[0]) - content.usual
    return begin, begin + (steps - float(curve.step[0]) + 1) * content.usual


def _progress(content: Content) -> Lines:
    curve, arrives = content.curve, content.facts["arrival"]
    x, y = thin.envelope(curve.time, curve.step)
    series = [Series("steps done", "blue", x, y)]
    limits, last = [float(curve.time[-1])], float(curve.step[-1])
    goal = float(content.training["steps"] or last)
    if plan := without_interruption(content):
        first = float(curve.step[0]) - 1
        line = (np.array(plan), np.array([first, goal]))
        series.append(Series("at the median step, without interruption", "grey", *line, "dashed"))
        limits.append(plan[1])
    if arrives:
        for key, name, colour in (
            ("earliest", "forecast, 5%", "orange"),
            ("date", "forecast", "red"),
            ("latest", "forecast, 95%", "orange"),
        ):
            line = (np.array([content.now, arrives[key]]), np.array([last, goal]))
            series.append(Series(name, colour, *line, "dashed"))
        limits.append(arrives["latest"])
    words = f"Step {last:,.0f} of {goal:,.0f}."
    axis = ticks.times(float(curve.time[0]) - (content.usual or 0.0), max(limits))
    steps = ticks.numbers("steps", 0.0, goal * 1.02)
    return Lines("Progress and arrival", words, axis, steps, series)


def _goodput(spent: Facts) -> Strips:
    rows = [(f"all {duration(spent['seconds'])} since the first submission", _shares(spent))]
    if spent["seconds"] > DAY:
        rows.append(("last day", _shares(spent["day"])))
    named = ", ".join(span.words for span in rows[0][1])
    axis = ticks.numbers("% of the time", 0.0, 100.0)
    return Strips("Where the time went", f"{named}.", axis, rows)


def _shares(spent: Facts) -> list[Span]:
    spans, at = [], 0.0
    for name, bucket in spent["buckets"].items():
        share = bucket["share"]
        if share > _SOME:
            words = f"{BUCKETS[name]}: {share:.1%}"
            spans.append(Span(100 * at, 100 * (at + share), COLOURS[name], words))
        at += share
    return spans
