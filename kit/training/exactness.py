"""Whether a resumed run can be bit-equal to one that was never interrupted.

    exact = exactness.of_attempt(context, start, saved)     # `saved`: the manifest of its checkpoint
    exact.numerics, exact.reasons                           # ..., ["isa AVX512 -> AVX2"]

kit/training/bit_facts.py knows the numerics of one rank.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.output import log
from kit.training import bit_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.store.records import Numerics, Start
    from kit.training.checkpoint import Record
    from kit.training.context import Context

_UNSET = "not set"


@dataclass(frozen=True)
class Exactness:
    """The numerics of an attempt, and why it need not be bit-equal to an uninterrupted run."""

    numerics: Numerics
    reasons: Sequence[str]  # empty if it should be


def of_attempt(context: Context, start: Start, saved: Record | None) -> Exactness:
    """Gather the numerics of all ranks, compare them with the checkpoint's, and log reasons.

    `saved`: the manifest of the checkpoint, None at step 0. A collective; the device must be selected.
    """
    own = bit_facts.of_rank(context.recipe, context.device)
    every: list[Numerics] = context.collectives.gather_objects(own)
    now: Numerics = {
        "facts": _placement(start) | _joined([one["facts"] for one in every]),
        "environment": _joined([one["environment"] for one in every]),
    }
    reasons = inexact(saved, now)
    if reasons:
        log.info(f"bit-equality is off: {'; '.join(reasons)}")
    return Exactness(now, reasons)


def inexact(saved: Record | None, now: Numerics) -> list[str]:
    """Why an attempt need not be bit-equal to an uninterrupted run; empty if it should be.

    Of checkpoints of earlier versions only the placement of the ranks is known, or nothing.
    """
    free = now["facts"].get("deterministic") == "false"
    reasons = ["training.deterministic is false on a GPU"] if free else []
    if saved is None:
        return reasons
    before = saved["numerics"]["facts"] if "numerics" in saved else _placement(saved)
    after = now["facts"]
    common = [name for name in after if name in before]
    reasons += [_change(n, before[n], after[n]) for n in common if before[n] != after[n]]
    if "numerics" in saved:
        one, other = saved["numerics"]["environment"], now["environment"]
        names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
        reasons += [_change(n, one.get(n, _UNSET), other.get(n, _UNSET)) for n in names]
    return reasons


def _placement(record: Start | Record) -> dict[str, str]:
    return {name: str(value) for name, value in record.get("topology", {}).items()}


def _change(name: str, before: str, after: str) -> str:
    if name == bit_facts.FEATURES:  # a dozen, of which most are the same
        before, after = _without(before, after), _without(after, before)
    return f"{name} {before} -> {after}"


def _without(words: str, others: str) -> str:
    return " ".join(word for word in words.split() if word not in others.split()) or "no more"


def _joined(ranks: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """A value for each name; where ranks differ, all of them in the order of the ranks."""
    names = dict.fromkeys(itertools.chain.from_iterable(ranks))
    return {name: _of_ranks([one.get(name, _UNSET) for one in ranks]) for name in names}


def _of_ranks(values: Sequence[str]) -> str:
    runs = [(len([*same]), value) for value, same in itertools.groupby(values)]
    return runs[0][1] if len(runs) == 1 else ", ".join(f"{n} x {value}" for n, value in runs)
