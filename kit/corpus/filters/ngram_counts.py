"""Repeated n-grams of a document, counted by code that numba compiles.

    top, repeated = ngram_counts.shares({2: 0.2}), ngram_counts.shares({5: 0.15, 6: 0.14})
    ngram_counts.excessive(codes, top, repeated)    # TOP, REPEATED or NEITHER

N-grams are compared by 64-bit hashes, so two different ones count as equal once in 2**64. Where a short
n-gram occurs only once, so does each longer one that begins with it: each length looks only at the places
that the one before it has left.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.store import numba_cache
from kit.store.numba_cache import compiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = np.ndarray[Any, Any]
    Word = Any  # uint64: a compiled function has no other type

NEITHER, TOP, REPEATED = 0, 1, 2
_MIX, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)  # of the hash of a character
_BASE = np.uint64(0xD6E8FEB86659FD93)  # of the polynomial over the characters of a string
_WORD_BASE = np.uint64(0xA3B195354A39B70D)  # of the one over the words of an n-gram
_FREE = -1  # a slot of a hash table


def shares(rule: Mapping[int, float] | None) -> Array:
    """The largest shares of a rule by length, float64 [longest + 1]; infinite for lengths without one."""
    rule = rule or {}
    found = np.full(max(rule, default=0) + 1, np.inf)
    for n, share in rule.items():
        found[n] = share
    return found


@functools.cache
def prepare() -> None:
    """Compile all that is used here, and share it with other processes."""
    codes, bounds, none = np.zeros(0, np.uint32), np.arange(1), shares(None)
    excessive(codes, none, none)
    excessive_words(codes, bounds, 1, none, none)
    numba_cache.publish(Path(__file__))


@compiled
def excessive(codes: Array, top: Array, repeated: Array) -> int:
    """Which share the n-grams of a text exceed first, from the shortest on: TOP, REPEATED or NEITHER.

    `codes` are its code points, uint32. TOP is the share of the most frequent n-gram among all, REPEATED
    that of those that occur more than once among the different ones.
    """
    characters = _mixed(codes)
    hashes, heads, counts = characters.copy(), _places(len(codes)), _places(len(codes))
    places, most = _places(len(codes)), len(codes)
    for n in range(1, min(max(len(top), len(repeated)) - 1, len(codes)) + 1):
        number = len(codes) - n + 1
        places = _before(places, number)
        if n > 1:
            _lengthen(hashes, places, n, characters, _BASE)
        largest_top = top[n] if n < len(top) else np.inf
        largest_repeated = repeated[n] if n < len(repeated) else np.inf
        pairs = len(places) // 2  # as many different n-grams may occur again
        may_repeat = pairs / max(1, number - len(places) + pairs)
        if n > 1 and most / number <= largest_top and may_repeat <= largest_repeated:
            continue  # also if all that may repeat does, and the most frequent ones continue alike
        different, again, most = _count(hashes, places, heads, counts)
        if most / number > largest_top:
            return TOP
        if again / (number - len(places) + different) > largest_repeated:
            return REPEATED
        places = _repeating(places, heads, counts)
    return NEITHER


def excessive_words(codes: Array, bounds: Array, size: int, top: Array, repeated: Array) -> int:
    """The same of n-grams of words, TOP before REPEATED; both are shares of `size` characters.

    `codes` are the code points of the words, joined, uint32, and `bounds`, int64 [words + 1], where each
    begins, and the end of the last. TOP is what the most frequent n-gram covers, of several the first,
    with a space between its words. REPEATED is what n-grams that repeat an earlier one cover, read from
    the beginning: behind one of them reading goes on after its last word. These are compared as strings:
    words that are cut otherwise make no difference.
    """
    sums, powers = _sums(codes)
    if _top_exceeds(sums, powers, bounds, size, top):
        return TOP
    if _repeated_exceed(sums, powers, bounds, size, repeated):
        return REPEATED
    return NEITHER


@compiled
def _top_exceeds(sums: Array, powers: Array, bounds: Array, size: int, largest: Array) -> bool:
    words = len(bounds) - 1
    of_words = np.empty(words, np.uint64)
    for word in range(words):
        of_words[word] = _hash(sums, powers, bounds[word], bounds[word + 1])
    hashes, heads, counts = of_words.copy(), _places(words), _places(words)
    places = _places(words)
    for n in range(1, min(len(largest) - 1, words) + 1):
        places = _before(places, words - n + 1)
        if n > 1:
            _lengthen(hashes, places, n, of_words, _WORD_BASE)
        if largest[n] == np.inf:
            continue
        _, _, most = _count(hashes, places, heads, counts)
        first = _first(places, counts, most) if most > 1 else 0
        if most * (bounds[first + n] - bounds[first] + n - 1) / size > largest[n]:
            return True
        places = _repeating(places, heads, counts)
    return False


@compiled
def _repeated_exceed(sums: Array, powers: Array, bounds: Array, size: int, largest: Array) -> bool:
    words, shortest = len(bounds) - 1, 1
    while shortest < len(largest) and largest[shortest] == np.inf:
        shortest += 1
    if shortest == len(largest):
        return False
    hashes, heads, counts = np.empty(words, np.uint64), _places(words), _places(words)
    # An n-gram has at least n characters: it occurs again only where that number of characters does.
    places = _places(words)
    while len(places) and bounds[places[-1]] + shortest >= len(sums):
        places = places[:-1]
    for place in places:
        hashes[place] = _hash(sums, powers, bounds[place], bounds[place] + shortest)
    _count(hashes, places, heads, counts)
    places = _repeating(places, heads, counts)
    for n in range(shortest, min(len(largest) - 1, words) + 1):
        if largest[n] == np.inf:
            continue
        places = _before(places, words - n + 1)
        for place in places:
            hashes[place] = _hash(sums, powers, bounds[place], bounds[place + n])
        if _read(hashes, places, bounds, n) / size > largest[n]:
            return True
    return False


@compiled
def _read(hashes: Array, places: Array, bounds: Array, n: int) -> int:
    """The characters of n-grams that repeat an earlier one; others than at the places do not."""
    table, shift = _table(len(places))
    characters = following = 0
    for place in places:
        if place >= following and _head(table, shift, hashes, place) != place:
            characters += bounds[place + n] - bounds[place]
            following = place + n
    return characters


@compiled
def _mixed(codes: Array) -> Array:
    """The hash of each character."""
    mixed = np.empty(len(codes), np.uint64)
    for place in range(len(codes)):
        mixed[place] = np.uint64(codes[place]) * _MIX
        mixed[place] ^= mixed[place] >> _SHIFT
    return mixed


@compiled
def _lengthen(hashes: Array, places: Array, n: int, units: Array, base: Word) -> None:
    """Make the hashes of n-grams from those of n-grams with one unit less."""
    for place in places:
        hashes[place] = hashes[place] * base + units[place + n - 1]


@compiled
def _sums(codes: Array) -> tuple[Array, Array]:
    """The hash of each beginning of a text, a polynomial, and the powers of its base."""
    sums, powers = np.zeros(len(codes) + 1, np.uint64), np.ones(len(codes) + 1, np.uint64)
    characters = _mixed(codes)
    for place in range(len(codes)):
        sums[place + 1] = sums[place] * _BASE + characters[place]
        powers[place + 1] = powers[place] * _BASE
    return sums, powers


@compiled
def _hash(sums: Array, powers: Array, begin: int, end: int) -> Word:
    """The hash of the string from `begin` to before `end`."""
    return sums[end] - sums[begin] * powers[end - begin]


@compiled
def _places(number: int) -> Array:
    """All places, ascending, int32."""
    places = np.empty(number, np.int32)
    for place in range(number):
        places[place] = place
    return places


@compiled
def _before(places: Array, end: int) -> Array:
    """Those of the places that lie before the end, which is not far from the last."""
    while len(places) and places[-1] >= end:
        places = places[:-1]
    return places


@compiled
def _table(number: int) -> tuple[Array, Word]:
    """An empty hash table for this number of places, and the shift that makes a slot of a hash."""
    bits = 4
    while 1 << bits < 2 * number:
        bits += 1
    return np.full(1 << bits, _FREE, np.int32), np.uint64(64 - bits)


@compiled
def _head(table: Array, shift: Word, hashes: Array, place: int) -> int:
    """The place that was looked up first with the hash of this one."""
    slot = np.int64(hashes[place] >> shift)
    while table[slot] != _FREE:
        if hashes[table[slot]] == hashes[place]:
            return table[slot]  # type: ignore[no-any-return]
        slot = (slot + 1) & (len(table) - 1)
    table[slot] = place
    return place


@compiled
def _count(hashes: Array, places: Array, heads: Array, counts: Array) -> tuple[int, int, int]:
    """Note the head of each place and, at the heads, the number of places.

    Returns how many different n-grams there are at the places, how many of them occur again, and how
    often the most frequent one of the text occurs.
    """
    table, shift = _table(len(places))
    different, again, most = 0, 0, 1
    for place in places:
        counts[place] = 0
    for place in places:
        head = _head(table, shift, hashes, place)
        heads[place] = head
        counts[head] += 1
        different += counts[head] == 1
        again += counts[head] == 2
        most = max(most, counts[head])
    return different, again, most


@compiled
def _first(places: Array, counts: Array, count: int) -> int:
    """The first place of an n-gram that occurs so often."""
    for place in places:
        if counts[place] == count:
            return place  # type: ignore[no-any-return]
    return 0


@compiled
def _repeating(places: Array, heads: Array, counts: Array) -> Array:
    """Those of the places whose n-gram occurs again."""
    kept, number = places.copy(), 0
    for place in places:
        if counts[heads[place]] > 1:
            kept[number] = place
            number += 1
    return kept[:number]
