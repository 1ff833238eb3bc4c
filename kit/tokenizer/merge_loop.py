"""The merge loop of byte-pair encoding over counted words, compiled by numba.

It takes the steps of HF tokenizers' BpeTrainer (0.23), so that its merges are the same, with counts of
64 bits: the most frequent pair comes first, of equal ones that of the smaller ids; a pair comes onto
the heap with the words it was seen in, again when more are found; one whose count has changed since
goes back with the count it has. Ten million words take it about 20 seconds and 2.5 GB.

A pair is `left << 32 | right`. Counts of pairs are in an open hash table, two arrays of a power of two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kit.tokenizer.numba_cache import compiled

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_NONE = np.int64(-1)  # a free place of the table
_MIX = np.int64(-7046029254386353131)  # 2^64 over the golden ratio: Knuth's multiplicative hash
_BASE = np.int64(6364136223846793005)  # odd; of the polynomial that hashes a token's characters


@compiled
def hash_tokens(codes: Array, lengths: Array, room: int) -> tuple[Array, Array]:
    """Hashes of tokens from their code points, one after the other, and the factors that join them.

    Both are int64 [room]; that of two tokens joined is `hashes[a] * powers[b] + hashes[b]`.
    """
    hashes, powers = np.zeros(room, np.int64), np.ones(room, np.int64)
    at = 0
    for token in range(len(lengths)):
        for code in codes[at : at + lengths[token]]:
            mixed = (np.int64(code) + 1) * _MIX
            hashes[token] = hashes[token] * _BASE + (mixed ^ (mixed >> 29)) * _MIX
            powers[token] *= _BASE
        at += lengths[token]
    return hashes, powers


@compiled
def merge(
    symbols: Array,
    lengths: Array,
    counts: Array,
    hashes: Array,
    powers: Array,
    tokens: int,
    min_frequency: int,
) -> Array:
    """The merges that bring a vocabulary of `tokens` entries to len(hashes) of them, if there are so many.

    Words are `symbols` int32, one word after the other, of `lengths` int32 [words], both of which are
    overwritten; `counts` is int64 [words]. Returns int64 [merges, 3]: left, right and what they become,
    which is another merge's token where the characters are the same.
    """
    starts = np.cumsum(lengths) - lengths
    keys, values = _count_pairs(symbols, starts, lengths, counts)
    heap, size, places = _queue(symbols, starts, lengths, keys, values)
    used, filled = size, len(places)  # every pair of the table is on the heap
    ids = _by_hash(hashes, tokens)
    merges = np.empty((len(hashes), 3), np.int64)
    done = 0
    while tokens < len(hashes) and size > 0:
        count, pair, begin, number, size = _pop(heap, size, keys, values)
        if count < min_frequency:
            break
        left, right = pair >> 32, pair & 0xFFFFFFFF
        joined = hashes[left] * powers[right] + hashes[right]
        place = _place_of(ids, hashes, joined)
        if ids[place] < 0:
            hashes[tokens], powers[tokens] = joined, powers[left] * powers[right]
            ids[place] = tokens
            tokens += 1
        if done == len(merges):
            merges = np.concatenate((merges, np.empty_like(merges)))
        merges[done] = left, right, np.int64(ids[place])
        words = places[begin : begin + number]
        keys, values, used, pairs, where = _replace_in_all(
            words, merges[done], symbols, starts, lengths, counts, keys, values, used
        )
        done += 1
        heap, size, places, filled = _enqueue(
            pairs, where, keys, values, heap, size, places, filled
        )
    return merges[:done]


@compiled
def _pop(heap: Array, size: int, keys: Array, values: Array) -> tuple[int, int, int, int, int]:
    """Take off the pair that is most frequent as of now: its row, and the heap's size; count 0 for none."""
    while size > 0:
        count, pair, begin, number = heap[0]
        _drop_top(heap, size)
        size -= 1
        now = values[_slot(keys, pair)]
        if count == now:
            return count, pair, begin, number, size
        if now > 0:
            _push(heap, size, now, pair, begin, number)
            size += 1
    return 0, 0, 0, 0, 0


@compiled
def _replace_in_all(
    words: Array,
    merged: Array,
    symbols: Array,
    starts: Array,
    lengths: Array,
    counts: Array,
    keys: Array,
    values: Array,
    used: int,
) -> tuple[Array, Array, int, Array, Array]:
    """Replace the pair `merged` (left, right, new) in words.

    Returns the table of pairs, which may have moved, how many it holds, and the pairs that arose, each
    with the word it is in.
    """
    found = 0
    fresh, where = np.empty(64, np.int64), np.empty(64, np.int32)
    for word in words:
        length = lengths[word]
        while 2 * (used + 2 * length) > len(keys):
            keys, values = _doubled(keys, values)
        if found + 2 * length > len(fresh):
            more = found + 2 * length
            fresh = np.concatenate((fresh, np.empty(more, np.int64)))
            where = np.concatenate((where, np.empty(more, np.int32)))
        text = symbols[starts[word] : starts[word] + length]
        lengths[word], arose, added = _replace(
            text, merged, counts[word], keys, values, fresh[found:]
        )
        where[found : found + arose] = word
        found += arose
        used += added
    return keys, values, used, fresh[:found], where[:found]


@compiled
def _replace(
    text: Array, merged: Array, count: int, keys: Array, values: Array, fresh: Array
) -> tuple[int, int, int]:
    """Replace a pair in one word, and count the pairs that vanish and arise.

    Those that arise go to `fresh`. Returns the word's length, how many arose, and how many of them are
    new to the table; both must have room.
    """
    left, right, new = merged
    to = at = found = added = 0
    while at < len(text):
        if at + 1 == len(text) or text[at] != left or text[at + 1] != right:
            text[to] = text[at]
            at += 1
            to += 1
            continue
        if to > 0:
            before = np.int64(text[to - 1]) << 32
            added += _add(keys, values, before | left, -count)
            added += _add(keys, values, before | new, count)
            fresh[found] = before | new
            found += 1
        if at + 2 < len(text):
            behind = np.int64(text[at + 2])
            added += _add(keys, values, right << 32 | behind, -count)
            added += _add(keys, values, new << 32 | behind, count)
            fresh[found] = new << 32 | behind
            found += 1
        text[to] = new
        at += 2
        to += 1
    return to, found, added


@compiled
def _enqueue(
    pairs: Array,
    where: Array,
    keys: Array,
    values: Array,
    heap: Array,
    size: int,
    places: Array,
    filled: int,
) -> tuple[Array, int, Array, int]:
    """Put the pairs that arose onto the heap, each once, with its words.

    Returns the heap and the places, which may have moved, and how much of each is filled.
    """
    if filled + len(pairs) > len(places):
        places = np.concatenate((places, np.empty(len(places) // 2 + len(pairs), np.int32)))
    order = np.argsort(pairs, kind="mergesort")  # stable: the words of a pair stay in order
    at = 0
    while at < len(pairs):
        pair, begin = pairs[order[at]], filled
        while at < len(pairs) and pairs[order[at]] == pair:
            word = where[order[at]]
            if filled == begin or places[filled - 1] != word:
                places[filled] = word
                filled += 1
            at += 1
        now = values[_slot(keys, pair)]
        if now > 0:
            heap = _push(heap, size, now, pair, begin, filled - begin)
            size += 1
        else:
            filled = begin
    return heap, size, places, filled


@compiled
def _count_pairs(
    symbols: Array, starts: Array, lengths: Array, counts: Array
) -> tuple[Array, Array]:
    """The table of all pairs: keys and counts."""
    keys, values = np.full(1 << 16, _NONE), np.zeros(1 << 16, np.int64)
    used = 0
    for word in range(len(starts)):
        for at in range(starts[word], starts[word] + lengths[word] - 1):
            used += _add(keys, values, np.int64(symbols[at]) << 32 | symbols[at + 1], counts[word])
            if 2 * used > len(keys):
                keys, values = _doubled(keys, values)
    return keys, values


@compiled
def _queue(
    symbols: Array, starts: Array, lengths: Array, keys: Array, values: Array
) -> tuple[Array, int, Array]:
    """The heap of all pairs, its size, and the words of each pair, one pair after the other."""
    number = np.zeros(len(keys), np.int64)  # of words, by the pair's place in the table
    ends = np.zeros(len(keys), np.int64)  # of what is filled of each pair's places
    places = np.empty(0, np.int32)
    for fill in (False, True):  # how many there are comes first
        last = np.full(len(keys), _NONE)
        if fill:
            ends = np.cumsum(number) - number
            places = np.empty(number.sum(), np.int32)
        for word in range(len(starts)):
            for at in range(starts[word], starts[word] + lengths[word] - 1):
                slot = _slot(keys, np.int64(symbols[at]) << 32 | symbols[at + 1])
                if last[slot] == word:
                    continue
                last[slot] = word
                if fill:
                    places[ends[slot]] = word
                    ends[slot] += 1
                else:
                    number[slot] += 1
    heap, size = np.empty((1024, 4), np.int64), 0
    for slot in range(len(keys)):
        if keys[slot] != _NONE:
            begin = ends[slot] - number[slot]
            heap = _push(heap, size, values[slot], keys[slot], begin, number[slot])
            size += 1
    return heap, size, places


@compiled
def _push(heap: Array, size: int, count: int, pair: int, begin: int, number: int) -> Array:
    """Add a row (count, pair, first and number of its words); returns the heap, which may have moved."""
    if size == len(heap):
        heap = np.concatenate((heap, np.empty_like(heap)))
    at = size
    while at > 0 and _comes_first(count, pair, heap[(at - 1) >> 1]):
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = count, pair, begin, number
    return heap


@compiled
def _drop_top(heap: Array, size: int) -> None:
    """Take the first row off a heap of `size` rows."""
    last = heap[size - 1].copy()
    at = 0
    while 2 * at + 1 < size - 1:
        child = 2 * at + 1
        if child + 1 < size - 1 and _comes_first(
            heap[child + 1, 0], heap[child + 1, 1], heap[child]
        ):
            child += 1
        if not _comes_first(heap[child, 0], heap[child, 1], last):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last


@compiled
def _comes_first(count: int, pair: int, row: Array) -> bool:
    return count > row[0] or (count == row[0] and pair < row[1])  # type: ignore[no-any-return]


@compiled
def _slot(keys: Array, pair: int) -> int:
    """Where a pair stands in the table, or would."""
    mask = len(keys) - 1
    at = ((pair * _MIX) >> 20) & mask
    while keys[at] not in (_NONE, pair):
        at = (at + 1) & mask
    return at  # type: ignore[return-value]


@compiled
def _add(keys: Array, values: Array, pair: int, amount: int) -> int:
    """Add to the count of a pair; returns 1 for one that is new to the table, else 0."""
    slot = _slot(keys, pair)
    is_new = keys[slot] == _NONE
    keys[slot] = pair
    values[slot] += amount
    return int(is_new)


@compiled
def _doubled(keys: Array, values: Array) -> tuple[Array, Array]:
    """The table with twice the room."""
    more_keys, more_values = np.full(2 * len(keys), _NONE), np.zeros(2 * len(keys), np.int64)
    for at in range(len(keys)):
        if keys[at] != _NONE:
            slot = _slot(more_keys, keys[at])
            more_keys[slot], more_values[slot] = keys[at], values[at]
    return more_keys, more_values


@compiled
def _by_hash(hashes: Array, tokens: int) -> Array:
    """Token ids in an open hash table, by the hash of their characters."""
    size = 1024
    while size < 4 * len(hashes):
        size *= 2
    ids = np.full(size, -1, np.int32)
    for token in range(tokens):
        ids[_place_of(ids, hashes, hashes[token])] = token
    return ids


@compiled
def _place_of(ids: Array, hashes: Array, wanted: int) -> int:
    """Where the token with a hash stands in the table of ids, or would."""
    at = wanted & (len(ids) - 1)
    while ids[at] >= 0 and hashes[ids[at]] != wanted:
        at = (at + 1) & (len(ids) - 1)
    return at
