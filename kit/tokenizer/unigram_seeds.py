"""Seed pieces for the training of a Unigram model: the frequent strings within words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

LONGEST = 16  # characters of a piece: sentencepiece's default
_SEEDS = 1_000_000  # sentencepiece's default
_MIN_OCCURRENCES = 2


class Seed(NamedTuple):
    """A string, given by one of its positions, and its number of occurrences in the text."""

    start: int
    length: int
    occurrences: int


def find(codes: Array, lengths: Array, counts: Array) -> list[Seed]:
    """Find the strings of 2 to LONGEST characters that cover most of the text: count times length.

    Words are concatenated `codes` [characters], small integers, of `lengths` [words]; `counts` is int64
    [words]. Strings of equal coverage are ordered by length, then by their codes.
    """
    ends = np.repeat(np.cumsum(lengths, dtype=np.int64), lengths)
    weights = np.repeat(counts, lengths)
    # A string is identified by the number of its prefix (all but the last character) and that character:
    # a rare string is dropped along with all strings that begin with it.
    positions, numbers = np.arange(len(codes)), codes.astype(np.int64)
    base = int(codes.max()) + 1
    seeds = []
    for length in range(2, LONGEST + 1):
        longer = positions + length <= ends[positions]
        positions = positions[longer]
        keys = numbers[longer] * base + codes[positions + length - 1]
        if not len(keys):
            break
        _, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
        totals = np.zeros(len(first), np.int64)
        np.add.at(totals, numbers, weights[positions])
        best = np.argsort(-totals, kind="stable")[:_SEEDS]
        best = best[totals[best] >= _MIN_OCCURRENCES]
        seeds.append(
            np.stack([positions[first[best]], np.full(len(best), length), totals[best]], axis=1)
        )
        frequent = totals[numbers] >= _MIN_OCCURRENCES
        positions, numbers = positions[frequent], numbers[frequent]
    if not seeds:
        return []
    rows = np.concatenate(seeds)
    order = np.argsort(-rows[:, 1] * rows[:, 2], kind="stable")[:_SEEDS]
    return [Seed(*row) for row in rows[order].tolist()]
