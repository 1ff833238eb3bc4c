"""A segmented document as the filters over words look at it; each view is made once, if a filter asks."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kit.corpus.filters.punctuation import OTHERS, TERMINAL
from kit.data.shards import LINE_END, SPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    Codes = np.ndarray[Any, np.dtype[np.uint32]]
    Flags = np.ndarray[Any, np.dtype[np.uint8]]
    Offsets = np.ndarray[Any, np.dtype[np.intp]]

_CODE_POINTS = 0x110000
_BETWEEN = 1  # white space and marks of a shard: no part of a word
_LETTER = 2
_NO_PUNCTUATION = 4


class Words(NamedTuple):
    """All words of a text, one after the other."""

    codes: Codes  # of their characters, joined
    flags: Flags
    bounds: Offsets  # where each begins, and the end of the last, [words + 1]

    def any_of(self, flag: int) -> int:
        """The number of words with a character that has the flag."""
        return int(np.count_nonzero(np.bitwise_or.reduceat(self.flags, self.bounds[:-1]) & flag))


class Segmented:
    """A document of non-empty lines, and its segmented text as a shard has it."""

    def __init__(self, lines: Sequence[str], segmented: str) -> None:
        self.segmented = segmented
        self.text = "\n".join(lines)
        self.line_ends = len(lines) - 1

    @functools.cached_property
    def words(self) -> Words:
        """The words; there is at least one."""
        codes = np.frombuffer(self.segmented.encode("utf-32-le", "surrogatepass"), np.uint32)
        flags = _flags()[codes]
        is_between = flags & _BETWEEN != 0
        begins = ~is_between
        begins[1:] &= is_between[:-1]
        ordinals = np.cumsum(~is_between)  # of the characters of words, from 1
        bounds = np.append(ordinals[begins] - 1, ordinals[-1])
        return Words(codes[~is_between], flags[~is_between], bounds)

    @property
    def number(self) -> int:
        """The number of words."""
        return len(self.words.bounds) - 1

    @functools.cached_property
    def with_letters(self) -> int:
        """The number of words with a letter: kana and kanji are letters too."""
        return self.words.any_of(_LETTER)

    @functools.cached_property
    def lengths(self) -> Offsets:
        """The lengths of the words that are more than punctuation, in characters."""
        words = self.words
        flags = np.bitwise_or.reduceat(words.flags, words.bounds[:-1])
        lengths: Offsets = np.diff(words.bounds)[flags & _NO_PUNCTUATION != 0]
        return lengths

    def holds(self, words: Sequence[str], number: int) -> bool:
        """Whether at least this number of the words occur."""
        text = f" {self.segmented}".replace("\n", " ").replace(SPACE, "")
        found = 0
        for word in words:
            if found >= number:
                break
            found += f" {word} " in text
        return found >= number


@functools.cache
def _flags() -> Flags:
    """The flags of each code point."""
    every = np.arange(_CODE_POINTS, dtype=np.uint32).tobytes().decode("utf-32-le", "surrogatepass")
    flags = np.full(_CODE_POINTS, _NO_PUNCTUATION, np.uint8)
    for sign in re.finditer(f"[{TERMINAL}{OTHERS}]+", every):
        flags[slice(*sign.span())] = 0
    # A letter or a digit, and the digits are taken out again.
    for run in re.finditer(r"[^\W_]+", every):
        letters = np.fromiter(map(str.isalpha, run[0]), bool, len(run[0]))
        flags[slice(*run.span())] |= (letters * _LETTER).astype(np.uint8)
    flags[[ord(mark) for mark in (" ", "\n", SPACE, LINE_END)]] = _BETWEEN
    return flags
