"""Compose letters and the marks that follow them: か and U+3099 become が, e and U+0301 é.

macOS writes file names so, and what is copied from them; no dictionary has such words. Unicode's NFC would
also replace some kanji, such as the 神 of U+FA19: only what is followed by a mark is composed.
"""

from __future__ import annotations

import re
import unicodedata

MARKS = "".join(map(chr, (*range(0x300, 0x370), 0x3099, 0x309A)))
_MARK = "[\u0300-\u036f\u3099\u309a]"
_ANY_MARK = re.compile(_MARK)
# At most eight marks: to order more takes time that grows with the square of their number.
_DECOMPOSED = re.compile(rf"(?!{_MARK})\S{_MARK}{{1,8}}(?!{_MARK})")
_OF_OTHER_WIDTH = re.compile("[ｦ-ﾝＡ-Ｚａ-ｚ]")


def composed(text: str) -> str:
    """The text with each letter and its marks composed, where Unicode has that letter."""
    if not _ANY_MARK.search(text):  # quicker than the pattern below, and true of most text
        return text
    return _DECOMPOSED.sub(_letter, text)


def _letter(match: re.Match[str]) -> str:
    letter, marks = match[0][0], match[0][1:]
    if _OF_OTHER_WIDTH.match(letter):
        letter = unicodedata.normalize("NFKC", letter)
    return unicodedata.normalize("NFC", letter + marks)
