"""The merge loop of byte-pair encoding over counted words, compiled by numba.

It takes the same steps as HF tokenizers' BpeTrainer (0.23), so that its merges are the same, with counts
of 64 bits: the most frequent pair comes first, among equals the one of the smaller ids; a pair goes onto
the heap with the words that contain it, again when more do; a pair whose count has changed goes back with
its current count. Ten million words take about 20 seconds and 2.5 GB.

A pair is `left << 32 | right`. Counts of pairs are in an open hash table, two arrays of a power of two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kit.store.numba_cache import compiled

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_NONE = np.int64(-1)  # a free slot of the table
_MIX = np.int64(-7046029254386353131)  # 2^64 over the golden ratio: Knuth's multiplicative hash
_BASE = np.int64(6364136223846793005)  # odd; base of the polynomial hash of a token's characters


@compiled
def hash_tokens(codes: Array, lengths: Array, size: int) -> tuple[Array, Array]:
    """Hash tokens, given their concatenated code points; returns hashes and powers, int64 [size].

    The hash of two tokens joined is `hashes[a] * powers[b] + hashes[b]`.
    """
    hashes, powers = np.zeros(size, np.int64), np.ones(size, np.int64)
    start = 0
    for token in range(len(lengths)):
        for code in codes[start : start + lengths[token]]:
            mixed = (np.int64(code) + 1) * _MIX
            hashes[token] = hashes[token] * _BASE + (mixed ^ (mixed >> 29)) * _MIX
            powers[token] *= _BASE
        start += lengths[token]
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
    """Merge pairs until a vocabulary of `tokens` entries has len(hashes), or no pair is left.

    Words are concatenated `symbols`, int32, of `lengths`, int32 [words]; both are overwritten. `counts` is
    int64 [words]. Returns int64 [merges, 3]: left, right and the merged token, which is the token of an
    earlier merge if their characters are the same.
    """
    starts = np.cumsum(lengths) - lengths
    keys, values = _count_pairs(symbols, starts, lengths, counts)
    heap, size, occurrences = _queue(symbols, starts, lengths, keys, values)
    used, filled = size, len(occurrences)  # all pairs of the table are on the heap
    ids = _by_hash(hashes, tokens)
    merges = np.empty((len(hashes), 3), np.int64)
    done = 0
    while tokens < len(hashes) and size > 0:
        count, pair, begin, number, size = _pop(heap, size, keys, values)
        if count < min_frequency:
            break
        left, right = pair >> 32, pair & 0xFFFFFFFF
        joined = hashes[left] * powers[right] + hashes[right]
        slot = _token_slot(ids, hashes, joined)
        if ids[slot] < 0:
            hashes[tokens], powers[tokens] = joined, powers[left] * powers[right]
            ids[slot] = tokens
            tokens += 1
        if done == len(merges):
            merges = np.concatenate((merges, np.empty_like(merges)))
        merges[done] = left, right, np.int64(ids[slot])
        words = occurrences[begin : begin + number]
        keys, values, used, pairs, owners = _replace_in_all(
            words, merges[done], symbols, starts, lengths, counts, keys, values, used
        )
        done += 1
        heap, size, occurrences, filled = _enqueue(
            pairs, owners, keys, values, heap, size, occurrences, filled
        )
    return merges[:done]


@compiled
def _pop(heap: Array, size: int, keys: Array, values: Array) -> tuple[int, int, int, int, int]:
    """Pop the currently most frequent pair; returns its row and the heap's size, count 0 if empty."""
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

    Returns the table of pairs, which may have moved, the number of its pairs, and the new pairs, each
    with its word.
    """
    size = 0
    fresh, owners = np.empty(64, np.int64), np.empty(64, np.int32)
    for word in words:
        length = lengths[word]
        while 2 * (used + 2 * length) > len(keys):
            keys, values = _doubled(keys, values)
        if size + 2 * length > len(fresh):
            more = size + 2 * length
            fresh = np.concatenate((fresh, np.empty(more, np.int64)))
            owners = np.concatenate((owners, np.empty(more, np.int32)))
        text = symbols[starts[word] : starts[word] + length]
        lengths[word], arose, added = _replace(
            text, merged, counts[word], keys, values, fresh[size:]
        )
        owners[size : size + arose] = word
        size += arose
        used += added
    return keys, values, used, fresh[:size], owners[:size]


@compiled
def _replace(
    text: Array, merged: Array, count: int, keys: Array, values: Array, fresh: Array
) -> tuple[int, int, int]:
    """Replace a pair in one word, and update the counts of the pairs that vanish and arise.

    The latter are written to `fresh`. Returns the word's length, the number of pairs that arose, and the
    number of pairs added to the table; `fresh` and the table must have room.
    """
    left, right, new = merged
    written = read = arose = added = 0
    while read < len(text):
        if read + 1 == len(text) or text[read] != left or text[read + 1] != right:
            text[written] = text[read]
            read += 1
            written += 1
            continue
        if written > 0:
            before = np.int64(text[written - 1]) << 32
            added += _add(keys, values, before | left, -count)
            added += _add(keys, values, before | new, count)
            fresh[arose] = before | new
            arose += 1
        if read + 2 < len(text):
            after = np.int64(text[read + 2])
            added += _add(keys, values, right << 32 | after, -count)
            added += _add(keys, values, new << 32 | after, count)
            fresh[arose] = new << 32 | after
            arose += 1
        text[written] = new
        read += 2
        written += 1
    return written, arose, added


@compiled
def _enqueue(
    pairs: Array,
    owners: Array,
    keys: Array,
    values: Array,
    heap: Array,
    size: int,
    occurrences: Array,
    filled: int,
) -> tuple[Array, int, Array, int]:
    """Push the pairs that arose onto the heap, each once, with its words.

    Returns the heap with its size, and the words of all pairs with the number in use; both arrays may
    have moved.
    """
    if filled + len(pairs) > len(occurrences):
        occurrences = np.concatenate(
            (occurrences, np.empty(len(occurrences) // 2 + len(pairs), np.int32))
        )
    order = np.argsort(pairs, kind="mergesort")  # stable: the words of a pair stay in order
    position = 0
    while position < len(pairs):
        pair, begin = pairs[order[position]], filled
        while position < len(pairs) and pairs[order[position]] == pair:
            word = owners[order[position]]
            if filled == begin or occurrences[filled - 1] != word:
                occurrences[filled] = word
                filled += 1
            position += 1
        now = values[_slot(keys, pair)]
        if now > 0:
            heap = _push(heap, size, now, pair, begin, filled - begin)
            size += 1
        else:
            filled = begin
    return heap, size, occurrences, filled


@compiled
def _count_pairs(
    symbols: Array, starts: Array, lengths: Array, counts: Array
) -> tuple[Array, Array]:
    """Count all pairs; returns the keys and counts of the table."""
    keys, values = np.full(1 << 16, _NONE), np.zeros(1 << 16, np.int64)
    used = 0
    for word in range(len(starts)):
        for position in range(starts[word], starts[word] + lengths[word] - 1):
            used += _add(
                keys,
                values,
                np.int64(symbols[position]) << 32 | symbols[position + 1],
                counts[word],
            )
            if 2 * used > len(keys):
                keys, values = _doubled(keys, values)
    return keys, values


@compiled
def _queue(
    symbols: Array, starts: Array, lengths: Array, keys: Array, values: Array
) -> tuple[Array, int, Array]:
    """Build the heap of all pairs; returns it, its size, and the words of each pair, concatenated."""
    number = np.zeros(len(keys), np.int64)  # of words, by the pair's slot in the table
    ends = np.zeros(len(keys), np.int64)  # of the words written so far for each pair
    occurrences = np.empty(0, np.int32)
    for fill in (False, True):  # the first pass only counts
        last = np.full(len(keys), _NONE)
        if fill:
            ends = np.cumsum(number) - number
            occurrences = np.empty(number.sum(), np.int32)
        for word in range(len(starts)):
            for position in range(starts[word], starts[word] + lengths[word] - 1):
                slot = _slot(keys, np.int64(symbols[position]) << 32 | symbols[position + 1])
                if last[slot] == word:
                    continue
                last[slot] = word
                if fill:
                    occurrences[ends[slot]] = word
                    ends[slot] += 1
                else:
                    number[slot] += 1
    heap, size = np.empty((1024, 4), np.int64), 0
    for slot in range(len(keys)):
        if keys[slot] != _NONE:
            begin = ends[slot] - number[slot]
            heap = _push(heap, size, values[slot], keys[slot], begin, number[slot])
            size += 1
    return heap, size, occurrences


@compiled
def _push(heap: Array, size: int, count: int, pair: int, begin: int, number: int) -> Array:
    """Push a row (count, pair, first and number of its words); returns the heap, which may have moved."""
    if size == len(heap):
        heap = np.concatenate((heap, np.empty_like(heap)))
    row = size
    while row > 0 and _comes_first(count, pair, heap[(row - 1) >> 1]):
        heap[row] = heap[(row - 1) >> 1]
        row = (row - 1) >> 1
    heap[row] = count, pair, begin, number
    return heap


@compiled
def _drop_top(heap: Array, size: int) -> None:
    """Remove the first row of a heap of `size` rows."""
    last = heap[size - 1].copy()
    row = 0
    while 2 * row + 1 < size - 1:
        child = 2 * row + 1
        if child + 1 < size - 1 and _comes_first(
            heap[child + 1, 0], heap[child + 1, 1], heap[child]
        ):
            child += 1
        if not _comes_first(heap[child, 0], heap[child, 1], last):
            break
        heap[row] = heap[child]
        row = child
    heap[row] = last


@compiled
def _comes_first(count: int, pair: int, row: Array) -> bool:
    return count > row[0] or (count == row[0] and pair < row[1])  # type: ignore[no-any-return]


@compiled
def _slot(keys: Array, pair: int) -> int:
    """The slot of a pair in the table, or the free one for it."""
    mask = len(keys) - 1
    slot = ((pair * _MIX) >> 20) & mask
    while keys[slot] not in (_NONE, pair):
        slot = (slot + 1) & mask
    return slot  # type: ignore[return-value]


@compiled
def _add(keys: Array, values: Array, pair: int, amount: int) -> int:
    """Add to the count of a pair; returns 1 if it is new to the table, else 0."""
    slot = _slot(keys, pair)
    is_new = keys[slot] == _NONE
    keys[slot] = pair
    values[slot] += amount
    return int(is_new)


@compiled
def _doubled(keys: Array, values: Array) -> tuple[Array, Array]:
    """Double the size of the table."""
    more_keys, more_values = np.full(2 * len(keys), _NONE), np.zeros(2 * len(keys), np.int64)
    for old in range(len(keys)):
        if keys[old] != _NONE:
            slot = _slot(more_keys, keys[old])
            more_keys[slot], more_values[slot] = keys[old], values[old]
    return more_keys, more_values


@compiled
def _by_hash(hashes: Array, tokens: int) -> Array:
    """Build an open hash table of token ids, by the hash of their characters."""
    size = 1024
    while size < 4 * len(hashes):
        size *= 2
    ids = np.full(size, -1, np.int32)
    for token in range(tokens):
        ids[_token_slot(ids, hashes, hashes[token])] = token
    return ids


@compiled
def _token_slot(ids: Array, hashes: Array, value: int) -> int:
    """The slot of the token with a hash in the table of ids, or the free one for it."""
    slot = value & (len(ids) - 1)
    while ids[slot] >= 0 and hashes[ids[slot]] != value:
        slot = (slot + 1) & (len(ids) - 1)
    return slot
