"""Filters by repetition within a document: lines, sentences, n-grams of characters.

The measures are those of Swallow's filters (swallow-llm/swallow-corpus), after Gopher's (arXiv 2112.11446,
table A1). N-grams are compared by 64-bit hashes, so two different ones count as equal once in 2**64.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from kit.config.filters import Filters, Repetition
    from kit.corpus.filters.facts import Codes, Facts

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: the hash of a character is different for each
_BASE = np.uint64(0xD6E8FEB86659FD93)  # of the polynomial over the characters of an n-gram


class Ngrams(NamedTuple):
    """Measures of the n-grams of one length in a text."""

    top: float  # the share of the most frequent one among all
    repeated: float  # the share of those that occur more than once among the different ones


def repeated_lines(facts: Facts, rule: Repetition) -> bool:
    """Whether too many of its lines repeat an earlier one."""
    return _repeats(facts.lines, rule)


def repeated_sentences(facts: Facts, rule: Repetition) -> bool:
    """Whether too many of its sentences repeat an earlier one."""
    return _repeats(facts.sentences, rule)


def refused_ngrams(facts: Facts, filters: Filters) -> str | None:
    """The filter that refuses a document for its n-grams: `top_ngrams`, `repeated_ngrams`, or None."""
    top: Mapping[int, float] = filters.top_ngrams or {}
    repeated: Mapping[int, float] = filters.repeated_ngrams or {}
    if not top and not repeated:
        return None
    for n, found in ngrams(facts.codes, top.keys() | repeated.keys()):
        if found.top > top.get(n, 1):
            return "top_ngrams"
        if found.repeated > repeated.get(n, 1):
            return "repeated_ngrams"
    return None


def ngrams(codes: Codes, lengths: Set[int]) -> Iterator[tuple[int, Ngrams]]:
    """Yield each length n, ascending, with the measures of the n-grams of a text, as far as it has any.

    `codes` are its code points, [characters].
    """
    characters = codes.astype(np.uint64) * _MIX
    characters ^= characters >> np.uint64(29)
    hashes = characters
    for n in range(1, min(max(lengths, default=0), len(codes)) + 1):
        if n > 1:
            hashes = hashes[:-1] * _BASE + characters[n - 1 :]
        if n in lengths:
            yield n, _measures(np.sort(hashes))


def _measures(ordered: np.ndarray[Any, Any]) -> Ngrams:
    ends = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1  # of each run but the last
    bounds = np.concatenate(([0], ends, [len(ordered)]))
    counts = bounds[1:] - bounds[:-1]
    return Ngrams(int(counts.max()) / len(ordered), int(np.count_nonzero(counts > 1)) / len(counts))


def _repeats(parts: Sequence[str], rule: Repetition) -> bool:
    again = {part: count - 1 for part, count in Counter(parts).items() if count > 1}
    if not again:
        return False
    characters = sum(len(part) * count for part, count in again.items())
    return (
        sum(again.values()) / len(parts) > rule.max_share
        or characters / sum(map(len, parts)) > rule.max_character_share
    )
