"""Filters by repeated n-grams of words, measured as Gopher's are in datatrove (0.10).

N-grams are compared by 64-bit hashes, so two different ones count as equal once in 2**64.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.corpus.filters.segmented import Offsets, Segmented, Words

    Hashes = np.ndarray[Any, np.dtype[np.uint64]]

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: the hash of a character is different for each
_BASE = np.uint64(0xD6E8FEB86659FD93)  # of the polynomial over the characters of a text
_WORD_BASE = np.uint64(0xA3B195354A39B70D)  # of the one over the words of an n-gram
_POWERS = 1 << 12  # computed once; few words have more characters


def top(facts: Segmented, rule: Mapping[int, float]) -> bool:
    """Whether the most frequent n-gram of words has too large a share of the characters, for some n.

    It counts with a space between its words; of several that are as frequent, the first one counts.
    """
    words, size = facts.words, len(facts.text)
    of_words = _of_words(facts)
    hashes = of_words
    for n in range(1, min(max(rule), facts.number) + 1):
        if n > 1:
            hashes = hashes[:-1] * _WORD_BASE + of_words[n - 1 :]
        lengths = _lengths(words, n) + (n - 1)
        if n in rule and _top_exceeds(rule[n], size, hashes, lengths):
            return True
    return False


def repeated(facts: Segmented, rule: Mapping[int, float]) -> bool:
    """Whether n-grams of words that repeat an earlier one have too large a share of the characters, for
    some n.

    The text is read from its beginning; behind an n-gram that repeats an earlier one, reading goes on
    after its last word.
    """
    words, size = facts.words, len(facts.text)
    of_words, places = _of_words(facts), _with_repeated_head(words, min(rule))
    lengths = _lengths(words, 1)
    powers = _powers(int(lengths.max()) + 1)[lengths]
    hashes = of_words
    for n in range(1, min(max(rule), facts.number) + 1):
        if n > 1:  # the n-gram as a string: words that are cut otherwise make no difference
            hashes = hashes[:-1] * powers[n - 1 :] + of_words[n - 1 :]
        places = places[: np.searchsorted(places, len(hashes))]
        if n in rule and _repeated_exceed(rule[n], size, hashes, _lengths(words, n), places, n):
            return True
    return False


def _top_exceeds(share: float, size: int, hashes: Hashes, lengths: Offsets) -> bool:
    """Whether the most frequent n-gram has more than a share of `size` characters."""
    ordered = np.sort(hashes)
    is_first = np.ones(len(ordered) + 1, bool)  # of a run; the last one closes the last run
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:-1])
    starts = np.flatnonzero(is_first)
    counts = starts[1:] - starts[:-1]
    most = int(counts.max())
    if most * int(lengths.max()) / size <= share:
        return False
    winners = ordered[starts[:-1]][counts == most]
    first = int(np.argmax(np.isin(hashes, winners)))
    return most * int(lengths[first]) / size > share


def _repeated_exceed(
    share: float, size: int, hashes: Hashes, lengths: Offsets, places: Offsets, n: int
) -> bool:
    """Whether the n-grams that repeat have more than a share of `size` characters.

    Only those at the `places` may repeat.
    """
    again, may_count = _repeating(hashes[places])
    again, may_count = places[again], places[may_count]
    if int(lengths[again].sum()) / size <= share:  # some of these may overlap
        return False
    seen: set[int] = set()
    characters = following = 0
    for place, ngram in zip(may_count.tolist(), hashes[may_count].tolist(), strict=True):
        if place < following:
            continue
        if ngram in seen:
            characters += int(lengths[place])
            following = place + n
        else:
            seen.add(ngram)
    return characters / size > share


def _with_repeated_head(words: Words, number: int) -> Offsets:
    """The words that begin a string of this number of characters which another word begins as well.

    N-grams of at least as many words repeat nowhere else.
    """
    characters = _mixed(words)
    hashes = characters
    for length in range(2, min(number, len(characters)) + 1):
        hashes = hashes[:-1] * _BASE + characters[length - 1 :]
    starts = words.bounds[: np.searchsorted(words.bounds, len(hashes))]
    return _repeating(hashes[starts])[1]


def _repeating(hashes: Hashes) -> tuple[Offsets, Offsets]:
    """The places of hashes that repeat an earlier one, and, ascending, of all that occur again."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    is_again = ordered[1:] == ordered[:-1]
    again = order[1:][is_again]
    is_any = np.zeros(len(hashes), bool)
    is_any[again] = True
    is_any[order[:-1][is_again]] = True
    return again, np.flatnonzero(is_any)


def _lengths(words: Words, n: int) -> Offsets:
    """The characters of each n-gram, without spaces."""
    return words.bounds[n:] - words.bounds[:-n]


@functools.lru_cache(maxsize=1)
def _of_words(facts: Segmented) -> Hashes:
    """The hash of each word: a polynomial over its characters, whose last has the exponent 0."""
    words = facts.words
    characters, lengths = _mixed(words), _lengths(words, 1)
    powers = _powers(int(lengths.max()))
    exponents = np.repeat(words.bounds[1:] - 1, lengths) - np.arange(len(characters))
    hashes: Hashes = np.add.reduceat(characters * powers[exponents], words.bounds[:-1])
    return hashes


def _mixed(words: Words) -> Hashes:
    """A hash of each character."""
    characters = words.codes.astype(np.uint64) * _MIX
    characters ^= characters >> np.uint64(29)
    return characters


def _powers(number: int) -> Hashes:
    """At least this number of powers of the base, from the exponent 0 on."""
    return _first_powers() if number <= _POWERS else _make_powers(number)


@functools.cache
def _first_powers() -> Hashes:
    return _make_powers(_POWERS)


def _make_powers(number: int) -> Hashes:
    factors = np.full(number, _BASE)
    factors[0] = 1
    return np.cumprod(factors)
