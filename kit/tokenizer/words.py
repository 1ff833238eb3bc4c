"""Counted words as arrays, the input of training."""

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
    """Concatenated words as code points or ids, and their frequencies."""

    codes: Array  # uint32 [characters]; ranks in an alphabet are int32
    lengths: Array  # int32 [words]
    counts: Array  # int64 [words]

    @classmethod
    def from_counts(cls, chunks: Iterable[CountBatch]) -> Words:
        """Collect chunks of word counts. Raises InputError if there are no words."""
        parts = [(*code_points(chunk.words), np.array(chunk.counts, np.int64)) for chunk in chunks]
        if not sum(len(codes) for codes, _, _ in parts):
            raise InputError(
                "the corpus is empty: its sources contain no text; name others in corpus.sources"
            )
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def alphabet(self, limit: int) -> Array:
        """The code points of the `limit` most frequent characters, in ascending order.

        Among equally frequent ones, the smaller code points.
        """
        totals = np.zeros(CODES, np.int64)
        np.add.at(totals, self.codes, np.repeat(self.counts, self.lengths))
        used = np.flatnonzero(totals)
        return np.sort(used[np.lexsort((used, -totals[used]))][:limit])

    def ranks_in(self, alphabet: Array) -> Array:
        """The rank in the alphabet of each character, int32; -1 for characters outside it."""
        ranks = np.full(CODES, -1, np.int32)
        ranks[alphabet] = np.arange(len(alphabet))
        return ranks[self.codes]


def code_points(texts: Sequence[str]) -> tuple[Array, Array]:
    """The concatenated code points of texts, and the length of each."""
    lengths = np.fromiter(map(len, texts), np.int32, len(texts))
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32), lengths


def too_few(vocab_size: int, minimum: int) -> InputError:
    """The error for a vocabulary smaller than its mandatory entries."""
    return InputError(
        f"tokenizer.vocab_size={vocab_size}: special tokens, bytes and alphabet alone take {minimum} "
        "entries; raise it, or lower tokenizer.limit_alphabet"
    )
