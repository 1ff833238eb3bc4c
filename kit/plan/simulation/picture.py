"""The charts of a simulation: how arrivals spread, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kit.errors import ConfigError
from kit.output.charts import ticks
from kit.output.charts.chart import Lines, Mark, Series, Span, Strips
from kit.output.quantities import count
from kit.plan.buckets import BUCKETS, COLOURS, KEPT
from kit.plan.simulation.conditions import DAY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.output.charts.chart import Chart

    Facts = Mapping[str, Any]


def charts(name: str, simulation: Facts) -> list[Chart]:
    """The charts, from above. Raises ConfigError if no run arrives."""
    if simulation["arrival"]["histogram"] is None:
        raise ConfigError(
            "--plot: no simulated run arrives, so there is nothing to draw; leave it out"
        )
    return [_arrivals(name, simulation), _losses(simulation)]


def _arrivals(name: str, simulation: Facts) -> Lines:
    arrival, runs = simulation["arrival"], simulation["runs"]
    edges = np.array(arrival["histogram"]["edges"]) / DAY
    shares = 100.0 * np.array(arrival["histogram"]["runs"], np.float64) / runs
    x, y = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(shares, 2), [0.0]])
    marks = [
        Mark(arrival[key] / DAY, symbol, f"{symbol}: {arrival[key] / DAY:.2f} days")
        for key, symbol in (("earliest", "5%"), ("median", "median"), ("latest", "95%"))
        if arrival[key] is not None
    ]
    return Lines(
        f"{name}: arrival of {count(runs, 'simulated run')}",
        "; ".join(mark.words for mark in marks),
        ticks.numbers("days after the submission", float(edges[0]), float(edges[-1]), 8),
        ticks.numbers("% of the runs", 0.0, float(shares.max()) * 1.05),
        [Series("runs", "blue", x, y)],
        marks,
    )


def _losses(simulation: Facts) -> Strips:
    """A bar for each bucket besides the kept steps."""
    shares = {
        name: 100.0 * one["share"]
        for name, one in simulation["buckets"].items()
        if name != KEPT and one["seconds"] > 0
    }
    rows = [
        (BUCKETS[name], [Span(0.0, share, COLOURS[name], f"{share:.2g}%")])
        for name, share in shares.items()
    ]
    words = ", ".join(f"{BUCKETS[name]} {share:.2g}%" for name, share in shares.items())
    axis = ticks.numbers("% of all time", 0.0, max(shares.values(), default=1.0) * 1.05)
    kept = 100.0 * simulation["buckets"][KEPT]["share"]
    return Strips(f"What is not spent on kept steps ({kept:.1f}%)", words, axis, rows)
