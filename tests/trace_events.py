"""What Perfetto does not show of a trace in Chrome's Trace Event Format, which it reads.

Its importer drops a complete event that overlaps another one of its thread without lying within it, an end
of a flow without a begin, and events of phases that it does not know (perfetto.dev, "Trace Event Format";
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PHASES = set("BEXiICbneSTFpstfPNODMVvRc")
_ROUNDING = 0.0015  # microseconds: times have three digits


def problems(trace: dict[str, Any]) -> Iterator[str]:
    """The events of a trace that are not shown, a line each."""
    threads: dict[Any, list[tuple[float, float, str]]] = collections.defaultdict(list)
    begun = {event["id"] for event in trace["traceEvents"] if event["ph"] == "s"}
    for event in trace["traceEvents"]:
        if event["ph"] not in _PHASES:
            yield f"{event}: unknown phase"
        elif not isinstance(event["ts"], int | float):
            yield f"{event}: its time is no number"
        elif event["ph"] == "f" and event["id"] not in begun:
            yield f"{event}: the flow has no begin"
        elif event["ph"] == "X":
            end = event["ts"] + event["dur"]
            threads[event["pid"], event["tid"]].append((event["ts"], end, event["name"]))
    for events in threads.values():
        yield from _overlapping(events)


def _overlapping(events: list[tuple[float, float, str]]) -> Iterator[str]:
    around: list[tuple[float, float, str]] = []
    for one in sorted(events, key=lambda event: (event[0], -event[1])):
        while around and around[-1][1] <= one[0]:
            around.pop()
        if around and one[1] > around[-1][1] + _ROUNDING:
            yield f"{one} overlaps {around[-1]}"
        around.append(one)
