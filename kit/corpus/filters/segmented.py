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

    Array = np.ndarray[Any, Any]

_CODE_POINTS = 0x110000


class Words(NamedTuple):
    """The words of a text."""

    codes: Array  # of their characters, joined, uint32
    bounds: Array  # where each begins, and the end of the last, int64 [words + 1]
    with_letters: int  # words with a letter: kana and kanji are letters too
    longer: int  # words that are more than punctuation
    characters: int  # of those

    @property
    def number(self) -> int:
        """The number of words."""
        return len(self.bounds) - 1


class Segmented:
    """A document of non-empty lines, and its segmented text as a shard has it."""

    def __init__(self, lines: Sequence[str], segmented: str) -> None:
        self.segmented = segmented
        self.text = "\n".join(lines)
        self.line_ends = len(lines) - 1

    @functools.cached_property
    def words(self) -> Words:
        """The words; there is at least one."""
        from kit.corpus.filters import word_bounds

        codes = np.frombuffer(self.segmented.encode("utf-32-le", "surrogatepass"), np.uint32)
        return Words(*word_bounds.split(codes, flags()))

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
def flags() -> Array:
    """The flags of each code point, uint8."""
    from kit.corpus.filters.word_bounds import BETWEEN, LETTER, NO_PUNCTUATION

    every = np.arange(_CODE_POINTS, dtype=np.uint32).tobytes().decode("utf-32-le", "surrogatepass")
    found = np.full(_CODE_POINTS, NO_PUNCTUATION, np.uint8)
    for sign in re.finditer(f"[{TERMINAL}{OTHERS}]+", every):
        found[slice(*sign.span())] = 0
    # A letter or a digit, and the digits are taken out again.
    for run in re.finditer(r"[^\W_]+", every):
        letters = np.fromiter(map(str.isalpha, run[0]), bool, len(run[0]))
        found[slice(*run.span())] |= letters * LETTER
    found[[ord(mark) for mark in (" ", "\n", SPACE, LINE_END)]] = BETWEEN
    return found
