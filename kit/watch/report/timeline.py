"""The timeline of attempts: when nodes were held, when they were not, and when steps were done and lost."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kit.output.charts import ticks
from kit.output.charts.chart import Span, Strips
from kit.output.quantities import count, duration
from kit.watch.report.ends import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.output.charts.chart import Axis
    from kit.watch.report.content import Content
    from kit.watch.view import Facts

_NARROW = 1 / 1000  # of the width: gaps that are not seen


def timeline(content: Content) -> Strips:
    """The timeline of a run that has attempts."""
    attempts = content.attempts
    last = max(
        [content.now if _is_open(content) else 0.0, *(_end(content, one) for one in attempts)]
    )
    begin = min(attempts[0]["start"], content.now - content.facts["goodput"]["seconds"])
    begin = max(begin, attempts[0]["start"] - (last - attempts[0]["start"]))  # not mostly before it
    axis = ticks.times(begin, last)
    lost = [Span(*span, "red", "steps that were lost") for span in content.lost]
    rows = [("attempts", _held(content, axis)), ("no nodes", _between(content, axis))]
    rows = [row for row in (*rows, ("lost steps", _merged(lost, axis))) if row[1]]
    words = f"{count(len(attempts), 'attempt')} in {duration(last - attempts[0]['start'])}."
    return Strips("Timeline", words, axis, rows)


def _is_open(content: Content) -> bool:
    return content.state in ("running", "queued", "unknown")


def _end(content: Content, one: Facts) -> float:
    """When an attempt ended; now, if it runs; else its last step, as far as it is known."""
    if one["end"] is not None:
        return float(one["end"])
    is_last = one is content.attempts[-1]
    if is_last and content.state == "running":
        return content.now
    return max(float(one["start"]), content.training["last_step"] or 0.0 if is_last else 0.0)


def _held(content: Content, axis: Axis) -> list[Span]:
    spans = []
    for position, one in enumerate(content.attempts):
        end = _end(content, one)
        reason = reason_of(one) if one["end"] is not None else "no end yet"
        words = f"attempt {one['number']}: {duration(end - one['start'])}, {reason}"
        spans.append(Span(one["start"], end, ("blue", "sky")[position % 2], words))
    return _merged(spans, axis)


def _between(content: Content, axis: Axis) -> list[Span]:
    first, attempts = content.attempts[0], content.attempts
    spans = [Span(axis.low, first["start"], "pale", "before the first attempt")]
    for before, one in itertools.pairwise(attempts):
        begin = _end(content, before)
        words = f"{duration(one['start'] - begin)} after {reason_of(before)}"
        spans.append(Span(begin, one["start"], "yellow", words))
    if content.state == "queued":
        spans.append(Span(_end(content, attempts[-1]), content.now, "yellow", "in the queue"))
    return _merged(spans, axis)


def _merged(spans: Sequence[Span], axis: Axis) -> list[Span]:
    """Spans too narrow to see, and too close to their neighbours, made one."""
    least = (axis.high - axis.low) * _NARROW
    merged: list[Span] = []
    for span in (one for one in spans if one.end > one.begin):
        before = merged[-1] if merged else None
        narrow = before is not None and span.end - before.begin < 2 * least
        if before is not None and narrow:
            words = before.words.partition(", and more")[0] + ", and more"
            merged[-1] = Span(before.begin, max(before.end, span.end), before.colour, words)
        else:
            merged.append(span)
    return merged
