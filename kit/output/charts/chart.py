"""A chart as a value: axes with ticks, and lines over them or strips of coloured spans.

    chart = Lines("Loss", "Loss of each step.", x, y, [Series("training", "blue", steps, losses)])
    svg.drawn(chart), picture.save(chart, out=stream)

Colours are names of COLOURS, which has one for light and one for dark pages: the palette of Okabe and Ito
(Color Universal Design, 2008), which people with any colour vision tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COLOURS: Mapping[str, tuple[str, str]] = {  # on light, on dark
    "blue": ("#0072b2", "#56b4e9"),
    "sky": ("#56b4e9", "#2f7fb0"),
    "red": ("#c44900", "#ff8a47"),
    "green": ("#00805e", "#2fc79b"),
    "orange": ("#e69f00", "#e69f00"),
    "yellow": ("#f0e442", "#d9cf4a"),
    "purple": ("#b35a8a", "#d992bd"),
    "grey": ("#8a929b", "#7b8694"),
    "pale": ("#ccd2d9", "#4a535e"),
    "black": ("#22272e", "#dfe4ea"),
}


@dataclass(frozen=True)
class Axis:
    """A range of values with labelled ticks; a title with the unit."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def share(self, values: Floats) -> Floats:
        """The place of each value on the axis: 0 at its begin, 1 at its end; others lie outside."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high = np.log10(low), np.log10(high)
            values = np.log10(np.maximum(values, 1e-300))
        return (np.asarray(values, np.float64) - low) / (high - low)


@dataclass(frozen=True)
class Series:
    """A line or points; values that are not finite are left out."""

    name: str
    colour: str
    x: Floats
    y: Floats
    style: Literal["line", "faint", "points", "dashed"] = "line"


@dataclass(frozen=True)
class Mark:
    """An event at a place of the x axis: a thin line with a symbol above it."""

    x: float
    symbol: str
    words: str
    weight: int = 0  # of marks that share a place, the symbol of the greatest is drawn


@dataclass(frozen=True)
class Lines:
    """Series over two axes."""

    title: str
    words: str  # for readers who do not see it
    x: Axis
    y: Axis
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    note: str = ""  # below the chart

    def spaced_marks(self, least: float) -> list[tuple[float, str, str]]:
        """Place, symbol and words of marks that lie `least` of the axis apart; close ones share a place."""
        groups: list[tuple[float, list[Mark]]] = []
        for mark in sorted(self.marks, key=lambda one: one.x):
            place = float(self.x.share(np.array([mark.x]))[0])
            if groups and place - groups[-1][0] < least:
                groups[-1][1].append(mark)
            else:
                groups.append((place, [mark]))
        return [
            (place, max(some, key=lambda one: one.weight).symbol, "; ".join(m.words for m in some))
            for place, some in groups
        ]


@dataclass(frozen=True)
class Span:
    """A coloured part of a strip."""

    begin: float
    end: float
    colour: str
    words: str


@dataclass(frozen=True)
class Strips:
    """Rows of spans over one axis."""

    title: str
    words: str  # for readers who do not see it
    x: Axis
    rows: Sequence[tuple[str, Sequence[Span]]]
    note: str = ""  # below the chart


Chart = Lines | Strips
