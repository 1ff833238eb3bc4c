"""Spans of time that lie within one another, as the parts of a step do, and times of them that add up.

exclusive([Span(0, 10, "backward"), Span(4, 6, "reduction")])      # backward 8, reduction 2
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Span(NamedTuple):
    """A call of a part, in any unit of time."""

    begin: float
    end: float
    name: str


def exclusive(spans: Sequence[Span]) -> dict[str, float]:
    """The time of each part without that of the parts within it, whatever thread they are in.

    A moment belongs to the span that began last, so that the times add up.
    """
    edges = sorted({edge for span in spans for edge in (span.begin, span.end)})
    waiting = sorted(spans, key=lambda span: (-span.begin, span.end))  # popped from its end
    times = dict.fromkeys((span.name for span in spans), 0.0)
    open_spans: list[Span] = []
    for begin, end in itertools.pairwise(edges):
        while waiting and waiting[-1].begin <= begin:
            open_spans.append(waiting.pop())
        open_spans = [span for span in open_spans if span.end > begin]
        if open_spans:
            times[open_spans[-1].name] += end - begin
    return times


def outermost(spans: Sequence[Span]) -> int:
    """The number of spans that are not within another one."""
    latest, number = float("-inf"), 0
    for span in sorted(spans, key=lambda one: (one.begin, -one.end)):
        number += span.end > latest
        latest = max(latest, span.end)
    return number
