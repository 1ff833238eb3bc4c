"""How attempts ended: a symbol for each kind of reason, and marks for charts over tokens."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from kit.cluster import decisions
from kit.output.charts.chart import Mark
from kit.output.redaction import redacted

if TYPE_CHECKING:
    from kit.watch.report.content import Content
    from kit.watch.view import Facts

_ENDS = (  # what a reason begins with, its symbol, and its name; the last ones stand out
    (("preemption",), "▲", "preemption"),
    (("time limit",), "◆", "time limit"),
    ((decisions.STOPPED, decisions.CANCELLED), "■", "stopped by its user"),
    ((decisions.CRASH, decisions.HANG, decisions.FAILURE), "✕", "failure"),
)
_WEIGHTS = {symbol: weight for weight, (_, symbol, _) in enumerate(_ENDS)}
_NO_REASON = "an end that no file holds"
_OTHER_END = ("●", "another reason")
_CROWD = 10  # marks that may lie close to one another


def kind_of_end(reason: str | None) -> tuple[str, str]:
    """Symbol and name of the reason for which an attempt ended."""
    for begins, symbol, name in _ENDS:
        if reason and reason.startswith(begins):
            return symbol, name
    return _OTHER_END


def begin_of(reason: str) -> str:
    """The words that a reason of its kind begins with."""
    found = (begin for begins, *_ in _ENDS for begin in begins if reason.startswith(begin))
    return next(found, _OTHER_END[1])


def marks(content: Content) -> list[Mark]:
    """A mark for each attempt but the first, with the end of the attempt before it."""
    curve, found = content.curve, []
    begins = np.array([one["from_step"] for one in content.attempts], np.float64)
    tokens = np.interp(begins, curve.step, curve.tokens, left=0.0)
    pairs = itertools.pairwise(content.attempts)
    for (before, one), at in zip(pairs, tokens[1:], strict=True):
        symbol, _ = kind_of_end(before["reason"])
        words = f"attempt {one['number']} from step {one['from_step']:,}, after "
        words += reason_of(before)
        found.append(Mark(float(at), symbol, words, _WEIGHTS.get(symbol, 0)))
    return found


def note(content: Content) -> str:
    """The symbols of the marks, each with the number of attempts that ended so."""
    ends = Counter(kind_of_end(one["reason"]) for one in content.attempts[:-1])
    if not ends:
        return ""
    kinds = ", ".join(f"{symbol} {name}: {number}" for (symbol, name), number in ends.most_common())
    crowd = " Close ones share a symbol." if ends.total() > _CROWD else ""
    return f"An attempt ended and the next one began: {kinds}.{crowd}"


def reason_of(one: Facts) -> str:
    """Why an attempt ended, in at most 80 characters, without secrets."""
    return _short(one["reason"] or _NO_REASON)


@functools.cache
def _short(reason: str) -> str:
    return redacted(reason[:300])[:80]
