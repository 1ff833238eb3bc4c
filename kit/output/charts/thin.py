"""Long series thinned to what a picture can show, without hiding what stands out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kit.output.charts.chart import Floats

BINS = 1000
_MEDIANS = 200
_IN_A_MEDIAN = 5  # values, at least


def envelope(x: Floats, y: Floats, bins: int = BINS) -> tuple[Floats, Floats]:
    """Of each of `bins` parts of the x axis the points with the least and the greatest y, in order.

    `x` is sorted. Every spike stays, at its place. At most two points a part are returned, and all points
    if there are no more than that; values that are not finite are left out.
    """
    x, y = finite(x, y)
    if len(x) <= 2 * bins:
        return x, y
    bounds = np.searchsorted(x, np.linspace(x[0], x[-1], bins + 1)[1:-1])
    kept: list[int] = []
    for first, last in _parts(bounds, len(x)):
        part = y[first:last]
        kept += sorted({first + int(part.argmin()), first + int(part.argmax())})
    return x[kept], y[kept]


def medians(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Medians of at most 200 parts with equally many values; empty for series too short for any."""
    x, y = finite(x, y)
    parts = min(_MEDIANS, len(x) // _IN_A_MEDIAN)
    if parts < 4:
        return x[:0], y[:0]
    pairs = [
        (np.median(some_x), np.median(some_y))
        for some_x, some_y in zip(np.array_split(x, parts), np.array_split(y, parts), strict=True)
    ]
    return np.array([one for one, _ in pairs]), np.array([one for _, one in pairs])


def finite(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points whose values are all finite."""
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]


def _parts(bounds: np.ndarray, number: int) -> list[tuple[int, int]]:
    """The parts between bounds that are not empty."""
    edges = [0, *(int(bound) for bound in bounds), number]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]
