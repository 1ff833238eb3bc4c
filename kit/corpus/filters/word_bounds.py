"""The words of a segmented text, by code that numba compiles."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.store import numba_cache
from kit.store.numba_cache import compiled

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

# Flags of a code point.
BETWEEN = np.uint8(1)  # white space and marks of a shard: no part of a word
LETTER = np.uint8(2)
NO_PUNCTUATION = np.uint8(4)


@functools.cache
def prepare() -> None:
    """Compile all that is used here, and share it with other processes."""
    split(np.frombuffer(b"", np.uint32), np.zeros(1, np.uint8))
    numba_cache.publish(Path(__file__))


@compiled
def split(codes: Array, flags: Array) -> tuple[Array, Array, int, int, int]:
    """Split a text, given its code points, uint32, and the flags of each code point there is, uint8.

    Returns the code points of the words, joined; where each word begins, and the end of the last, int64
    [words + 1]; the number of words with a letter, of those that are more than punctuation, and the
    characters of the latter.
    """
    joined, bounds = np.empty(len(codes), np.uint32), np.zeros(len(codes) + 1, np.int64)
    size = words = with_letters = longer = characters = 0
    of_word = np.uint8(0)  # the flags of its characters so far
    for place in range(len(codes) + 1):
        found = flags[codes[place]] if place < len(codes) else BETWEEN
        if not found & BETWEEN:
            joined[size] = codes[place]
            of_word |= found
            size += 1
        elif size > bounds[words]:
            words += 1
            bounds[words] = size
            with_letters += of_word & LETTER != 0
            if of_word & NO_PUNCTUATION:
                longer += 1
                characters += size - bounds[words - 1]
            of_word = np.uint8(0)
    return joined[:size], bounds[: words + 1], with_letters, longer, characters
