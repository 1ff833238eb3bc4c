"""The pieces that the training of a Unigram model begins with: the frequent strings within words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

LONGEST = 16  # characters of a piece: sentencepiece's default
_SEEDS = 1_000_000  # sentencepiece's default
_LEAST = 2  # occurrences


class Seed(NamedTuple):
    """A string by one place where it stands, and how often it stands in the text."""

    start: int
    length: int
    occurrences: int


def find(codes: Array, lengths: Array, counts: Array) -> list[Seed]:
    """The strings of 2 to LONGEST characters that cover most of the text: count times length.

    Words are `codes` [characters], small whole numbers, one word after the other, of `lengths` [words];
    `counts` is int64 [words]. Of strings that cover as much the shorter come first, then the smaller.
    """
    ends = np.repeat(np.cumsum(lengths, dtype=np.int64), lengths)
    weights = np.repeat(counts, lengths)
    # A string is known by the number of what it is without its last character, and that character:
    # what occurs too seldom is dropped with all that would begin with it.
    places, numbers = np.arange(len(codes)), codes.astype(np.int64)
    base = int(codes.max()) + 1
    found = []
    for length in range(2, LONGEST + 1):
        longer = places + length <= ends[places]
        places = places[longer]
        keys = numbers[longer] * base + codes[places + length - 1]
        if not len(keys):
            break
        _, at, numbers = np.unique(keys, return_index=True, return_inverse=True)
        totals = np.zeros(len(at), np.int64)
        np.add.at(totals, numbers, weights[places])
        best = np.argsort(-totals, kind="stable")[:_SEEDS]
        best = best[totals[best] >= _LEAST]
        found.append(np.stack([places[at[best]], np.full(len(best), length), totals[best]], axis=1))
        frequent = totals[numbers] >= _LEAST
        places, numbers = places[frequent], numbers[frequent]
    if not found:
        return []
    rows = np.concatenate(found)
    order = np.argsort(-rows[:, 1] * rows[:, 2], kind="stable")[:_SEEDS]
    return [Seed(*row) for row in rows[order].tolist()]
