"""Filters by script: the shares of kana, kanji, symbols and other characters."""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from kit.config.filters import JapaneseLetters, Kana, MaximumShare, MinimumShare, Shares
    from kit.corpus.filters.facts import Codes, Facts

# Hiragana, katakana and their half-width forms, kanji with their extensions, and 々〆〇ー.
_JAPANESE = re.compile(
    "[\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
_WORD = re.compile(r"[^\W_]+")  # letters and digits of any script
_VISIBLE = re.compile(r"\S+")
_KANA = re.compile("[ぁ-んァ-ン]")
# As Swallow counts them, inclusive; without ー, which follows kana of either kind.
_HIRAGANA = ((0x3041, 0x3096),)
_KATAKANA = ((0x30A1, 0x30FA),)
_KANJI = ((0x3005, 0x3005), (0x3007, 0x3007), (0x303B, 0x303B), (0x3400, 0x9FFF), (0xF900, 0xFAFF),
          (0x20000, 0x3FFFF))  # fmt: skip
_MARKS = tuple((ord(mark), ord(mark)) for mark in "、，。．！？")


class Letters(NamedTuple):
    """The numbers of Japanese letters in a text."""

    hiragana: int
    katakana: int
    kanji: int
    total: int  # with the marks 、，。．！？


def japanese(facts: Facts, rule: MinimumShare) -> bool:
    """Whether too few of the visible characters are kana or kanji."""
    return share(_JAPANESE, facts) < rule.min_share


def symbols(facts: Facts, rule: MaximumShare) -> bool:
    """Whether too many of the visible characters are neither letters nor digits."""
    return 1 - share(_WORD, facts) > rule.max_share


def kana(facts: Facts, rule: Kana) -> bool:
    """Whether there is no kana among the first characters."""
    return not _KANA.search(facts.text[: rule.within])


def japanese_letters(facts: Facts, rule: JapaneseLetters) -> bool:
    """Whether the Japanese letters are too few, or too small a share of all characters."""
    total = letters(facts).total
    return total < rule.min or total < rule.min_share * len(facts.text)


def hiragana_share(facts: Facts, rule: Shares) -> bool:
    """Whether hiragana are too small or too large a share of the Japanese letters."""
    return _is_outside(letters(facts).hiragana, letters(facts).total, rule)


def katakana_share(facts: Facts, rule: Shares) -> bool:
    """Whether katakana are too small or too large a share of the Japanese letters."""
    return _is_outside(letters(facts).katakana, letters(facts).total, rule)


def kanji_share(facts: Facts, rule: Shares) -> bool:
    """Whether kanji are too small or too large a share of the Japanese letters."""
    return _is_outside(letters(facts).kanji, letters(facts).total, rule)


@functools.lru_cache(maxsize=1)
def letters(facts: Facts) -> Letters:
    """Count the Japanese letters."""
    _, hiragana, katakana, kanji, marks = np.bincount(_kinds()[facts.codes], minlength=5).tolist()
    return Letters(hiragana, katakana, kanji, hiragana + katakana + kanji + marks)


def share(pattern: re.Pattern[str], facts: Facts) -> float:
    """The share of matching characters among those that are not white space, 0 to 1; 0 for none."""
    visible = _characters(_VISIBLE, facts.text)
    return _characters(pattern, facts.text) / visible if visible else 0.0


def _characters(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


@functools.cache
def _kinds() -> Codes:
    """The kind of each code point: 1 hiragana, 2 katakana, 3 kanji, 4 marks, 0 any other."""
    kinds = np.zeros(sys.maxunicode + 1, np.uint8)
    for kind, ranges in enumerate((_HIRAGANA, _KATAKANA, _KANJI, _MARKS), 1):
        for first, last in ranges:
            kinds[first : last + 1] = kind
    return kinds


def _is_outside(number: int, total: int, rule: Shares) -> bool:
    found = number / total if total else 0.0
    return not rule.min_share <= found <= rule.max_share
