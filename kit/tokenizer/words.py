"""Counted words as arrays, which training works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kit.tokenizer.counts import CountBatch

    Array = np.ndarray[Any, Any]

CODES = 0x110000  # of Unicode


@dataclass(frozen=True)
class Words:
    """Words as code points, or ids, one word after the other, and how often they occur."""

    codes: Array  # uint32 [characters]; ranks in an alphabet are int32
    lengths: Array  # int32 [words]
    counts: Array  # int64 [words]

    @classmethod
    def of(cls, chunks: Iterable[CountBatch]) -> Words:
        """Raises InputError where there are none."""
        found = [(*code_points(chunk.words), np.array(chunk.counts, np.int64)) for chunk in chunks]
        if not sum(len(codes) for codes, _, _ in found):
            raise InputError("the corpus is empty: its sources hold no text; name others")
        return cls(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))

    def alphabet(self, limit: int) -> Array:
        """The code points of the most frequent characters, in ascending order.

        Of equally frequent ones those of the smaller code points.
        """
        totals = np.zeros(CODES, np.int64)
        np.add.at(totals, self.codes, np.repeat(self.counts, self.lengths))
        found = np.flatnonzero(totals)
        return np.sort(found[np.lexsort((found, -totals[found]))][:limit])

    def ranked(self, alphabet: Array) -> Array:
        """For each character its rank in the alphabet, int32; -1 where it is not in it."""
        ranks = np.full(CODES, -1, np.int32)
        ranks[alphabet] = np.arange(len(alphabet))
        return ranks[self.codes]


def code_points(texts: Sequence[str]) -> tuple[Array, Array]:
    """The code points of texts, one after the other, and the length of each."""
    lengths = np.fromiter(map(len, texts), np.int32, len(texts))
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32), lengths


def too_few(wanted: int, least: int) -> InputError:
    """The error for a vocabulary that is smaller than what has to be in it."""
    return InputError(
        f"tokenizer.vocab_size={wanted}: special tokens, bytes and alphabet alone are {least}; "
        "ask for more, or lower tokenizer.limit_alphabet"
    )
