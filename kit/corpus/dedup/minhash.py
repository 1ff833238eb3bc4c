"""MinHash signatures of documents, compiled by numba.

The hashes are those of datatrove 0.10 at its defaults: XXH64 of each n-gram, its units joined by spaces;
permutations h -> (h a + b mod 2^64) mod 2^61 - 1, with a and b from numpy's RandomState(1); the smallest
value of each. A band is a row of these, and its hash XXH64 of their bytes: among 10^9 documents, the
expected number of pairs with the same hash by chance is 0.03 in each band.

    text = np.frombuffer("吾 輩 は 猫 で あ る".encode(), np.uint8)
    minhash.band_hashes(text, 5, *minhash.permutations(200), 20)

Source of XXH64: its specification, xxHash/doc/xxhash_spec.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kit.store.numba_cache import compiled

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]
    Word = Any  # uint64: a compiled function has no other type

_SEED = 1
_P1, _P2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_P3, _P4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_MERSENNE, _MERSENNE_BITS = np.uint64(2**61 - 1), np.uint64(61)
_MAX, _ZERO = np.uint64(2**64 - 1), np.uint64(0)
_SPACE = 0x20


def permutations(count: int) -> tuple[Array, Array]:
    """The multipliers and summands of the permutations, uint64 [count] each."""
    drawn = np.random.RandomState(_SEED)
    multipliers = drawn.randint(1, _MERSENNE, count, np.uint64)
    return multipliers, drawn.randint(0, _MERSENNE, count, np.uint64)


@compiled
def _rotate(value: Word, bits: int) -> Word:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@compiled
def _read(text: Array, start: int, size: int) -> Word:
    """The little-endian integer of some bytes."""
    value = _ZERO
    for place in range(size):
        value |= np.uint64(text[start + place]) << np.uint64(8 * place)
    return value


@compiled
def _round(value: Word, lane: Word) -> Word:
    return _rotate(value + lane * _P2, 31) * _P1


@compiled
def _stripes(text: Array, start: int, end: int) -> Word:
    """The state after the stripes of 32 bytes of a text with at least one."""
    a, b, c, d = _P1 + _P2, _P2, _ZERO, _ZERO - _P1
    for place in range(start, end - 31, 32):
        a = _round(a, _read(text, place, 8))
        b = _round(b, _read(text, place + 8, 8))
        c = _round(c, _read(text, place + 16, 8))
        d = _round(d, _read(text, place + 24, 8))
    value = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
    for lane in (a, b, c, d):
        value = (value ^ _round(_ZERO, lane)) * _P1 + _P4
    return value


@compiled
def xxh64(text: Array, start: int, end: int) -> Word:
    """XXH64, with seed 0, of the bytes from `start` to before `end`."""
    size = end - start
    value = (_stripes(text, start, end) if size >= 32 else _P5) + np.uint64(size)
    place = start + size // 32 * 32
    while place + 8 <= end:
        value = _rotate(value ^ _round(_ZERO, _read(text, place, 8)), 27) * _P1 + _P4
        place += 8
    if place + 4 <= end:
        value = _rotate(value ^ (_read(text, place, 4) * _P1), 23) * _P2 + _P3
        place += 4
    while place < end:
        value = _rotate(value ^ (np.uint64(text[place]) * _P5), 11) * _P1
        place += 1
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    return value ^ (value >> np.uint64(32))


@compiled
def smallest(text: Array, ngram: int, multipliers: Array, summands: Array) -> Array:
    """The smallest value of each permutation over the n-grams of a text, uint64 [permutations].

    `text` is UTF-8, uint8, its units separated by single spaces. Without an n-gram the result is empty.
    """
    least = np.full(len(multipliers), _MAX, np.uint64)
    starts = np.zeros(ngram, np.int64)  # of the last units, as a ring
    units = 0
    for end in range(len(text) + 1):
        if end < len(text) and text[end] != _SPACE:
            continue
        units += 1
        if units >= ngram:
            value = xxh64(text, starts[units % ngram], end)
            for number in range(len(least)):
                permuted = value * multipliers[number] + summands[number]
                permuted = (permuted & _MERSENNE) + (permuted >> _MERSENNE_BITS)
                permuted = min(
                    permuted, permuted - _MERSENNE
                )  # which wraps around if it is smaller
                least[number] = min(least[number], permuted)
        starts[units % ngram] = end + 1
    return least if units >= ngram else least[:0]


@compiled
def band_hashes(text: Array, ngram: int, multipliers: Array, summands: Array, bands: int) -> Array:
    """The hash of each band of a text's signature, uint64 [bands]; empty without an n-gram."""
    values = smallest(text, ngram, multipliers, summands).view(np.uint8)
    hashes = np.zeros(bands if len(values) else 0, np.uint64)
    width = len(values) // bands
    for band in range(len(hashes)):
        hashes[band] = xxh64(values, band * width, (band + 1) * width)
    return hashes
