"""The units of a text of which n-grams are made, so that trifles do not tell two documents apart.

Text is simplified as by datatrove 0.10 at its defaults: lower case, each number a 0, punctuation and white
space a space, and no combining marks, so that が is か. Units are joined by single spaces; characters have
none among them.

    ngrams.characters("吾輩は、1905年の猫。")     # "吾 輩 は 0 年 の 猫"
    ngrams.unmarked(ngrams.simplified("Café、24時間"))    # "cafe 0時間"
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

# PUNCTUATION of datatrove/utils/text.py; other marks, such as ・ and 『, are characters like any.
_PUNCTUATION = (
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(map(chr, (*range(9), 11, 12, *range(13, 32), *range(127, 160))))
)
_NUMBER = re.compile(r"\d+(?:[.,،٫⎖⎗⎘]\d+)?")
_SPACE = ord(" ")
_PART = 1 << 18  # characters: as code points, a long document would take half a gigabyte
_PLANES = (0, 0x10000, 0xE0000)  # of Unicode: only these have white space and combining marks


def characters(text: str) -> str:
    """The characters of a text, simplified, joined by spaces."""
    return " ".join(filter(None, map(_spaced, _parts(text))))


def simplified(text: str) -> str:
    """The text in lower case, with 0 for numbers and spaces for punctuation, marks still in it."""
    codes = _codes(_NUMBER.sub("0", text.lower()))
    return _text(_tables()[0][codes])


def unmarked(text: str) -> str:
    """The text, canonically decomposed, without its combining marks."""
    codes = _codes(unicodedata.normalize("NFD", text))
    return _text(codes[~_tables()[1][codes]])


def _parts(text: str) -> Iterator[str]:
    """The text in parts that end where lines do, which nothing in it crosses."""
    begin = 0
    while (end := text.find("\n", begin + _PART)) >= 0:
        yield text[begin:end]
        begin = end + 1
    yield text[begin:]


def _spaced(text: str) -> str:
    codes = _codes(unmarked(simplified(text)).replace(" ", ""))
    spaced = np.full(max(0, 2 * len(codes) - 1), _SPACE, np.uint32)
    spaced[::2] = codes
    return _text(spaced)


@functools.cache
def _tables() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """By code point: its replacement, and whether it is a combining mark (category Mn)."""
    simple = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    marks = np.zeros(len(simple), bool)
    assigned = [chr(code) for plane in _PLANES for code in range(plane, plane + 0x10000)]
    simple[[ord(letter) for letter in assigned if letter.isspace()]] = _SPACE
    simple[[ord(mark) for mark in _PUNCTUATION]] = _SPACE
    marks[[ord(letter) for letter in assigned if unicodedata.category(letter) == "Mn"]] = True
    return simple, marks


def _codes(text: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _text(codes: np.ndarray[Any, Any]) -> str:
    return codes.tobytes().decode("utf-32-le")
