"""A span of time split into named parts: intervals painted over one another, the lowest priority first.

    whole = partition(begin, end, [Layer("queue", ...), Layer("kept_steps", ...)], rest="unknown")
    whole.sums(), whole.within(begin, end).sums()

Between two neighbouring boundaries of any intervals time has one name: that of the last layer that covers
it, else `rest`. Times are integers of nanoseconds, so that the parts add up to the whole exactly, whatever
the intervals are: overlapping, reversed, or outside of the span.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Times = NDArray[np.int64]

SECOND = 1_000_000_000  # nanoseconds


def nanoseconds(seconds: float | Sequence[float] | NDArray[np.float64]) -> Times:
    """Unix times, or durations, in integers of nanoseconds."""
    return np.rint(np.asarray(seconds, np.float64) * SECOND).astype(np.int64)


@dataclass(frozen=True)
class Layer:
    """Intervals [begin, end) of one name; those that end before they begin cover nothing."""

    name: str
    begin: Times
    end: Times


@dataclass(frozen=True)
class Partition:
    """Segments that cover a span without a gap or an overlap, each with the number of its name."""

    bounds: Times  # of the segments: one more than there are
    label: NDArray[np.int64]  # an index of `names`
    names: Sequence[str]

    def sums(self, weight: NDArray[np.int64] | None = None) -> dict[str, int]:
        """Nanoseconds by name; with a weight for each segment, the weighted sums."""
        lengths = np.diff(self.bounds) * (1 if weight is None else weight)
        # By name in integers: the weights of np.bincount are floating point.
        return {
            name: int(lengths[self.label == number].sum()) for number, name in enumerate(self.names)
        }

    def within(self, begin: int, end: int) -> Partition:
        """The part of it that lies in [begin, end)."""
        return Partition(np.clip(self.bounds, begin, max(begin, end)), self.label, self.names)

    def count(self, layer: Layer) -> Times:
        """By how many intervals of one of its layers each segment is covered."""
        return _cover(self.bounds, layer)


def partition(begin: int, end: int, layers: Sequence[Layer], rest: str) -> Partition:
    """Split [begin, end): a later layer lies over earlier ones, and under them all lies `rest`."""
    end = max(begin, end)
    edges = [np.clip(edge, begin, end) for layer in layers for edge in (layer.begin, layer.end)]
    bounds = _distinct(np.concatenate([np.array([begin, end], np.int64), *edges]))
    names = list(dict.fromkeys([rest, *(layer.name for layer in layers)]))
    label = np.zeros(len(bounds) - 1, np.int64)
    for layer in layers:
        label[_cover(bounds, layer) > 0] = names.index(layer.name)
    return Partition(bounds, label, names)


def _distinct(times: Times) -> Times:
    """As np.unique, which is four times as slow for a million times (numpy 2.4)."""
    times.sort()
    first = np.ones(len(times), np.bool_)
    first[1:] = times[1:] != times[:-1]
    return times[first]


def _cover(bounds: Times, layer: Layer) -> Times:
    """By how many intervals of a layer each segment is covered."""
    right = layer.end > layer.begin
    begin, end = (np.clip(edge[right], bounds[0], bounds[-1]) for edge in (layer.begin, layer.end))
    opened, closed = (
        np.bincount(np.searchsorted(bounds, edge), minlength=len(bounds)) for edge in (begin, end)
    )
    return np.cumsum(opened - closed)[:-1]
