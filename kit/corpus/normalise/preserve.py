"""Preserve text that neologdn would destroy: stand-ins replace it during normalisation.

A stand-in is a character that neologdn leaves alone, and beside which it treats spaces as it should
beside the original. Stand-in characters of the line itself are recorded along with the others, in order,
so that they cannot be confused.

Ranges: the tilde (any of 〜～~∼∾; written 〜 afterwards) is kept if no other tilde is next to it and,
ignoring spaces on both sides, one of these holds:
- a digit follows, and neither hiragana nor a voicing mark precedes: 10~20, 3月〜5月, （〜1867年
- a number precedes, with a unit of at most four kanji, katakana, letters, %, ℃, つ or か: 1867年〜）,
  10時〜, 500円〜. Its last digit may be one of 〇一二三四五六七八九十元 before 年, 月, 日, 時, 代, 世紀.
- a word precedes and a word follows, with spaces on both sides or on neither: 東京〜大阪, A〜Z,
  ロンドン（英国）〜パリ, 「序」〜「結」. A word begins and ends in a letter that is not kana or in two of
  katakana (ラ〜メン has one on one side); it may end in a closing bracket, and then begin in an opening
  corner bracket on the other side. Hiragana is no word: すご〜い.
Drawn-out kanji, as in 大〜好き, cannot be distinguished from a range, and are kept as well.

Tildes of URLs: the ~ in a run of printable ASCII that begins with http://, https:// or ftp://, if
another character of the run follows, not a tilde itself.

Accent spaces: neologdn drops the space after a letter unless it is ASCII. Here the letters of scripts
written with spaces, accented Latin among them, count as ASCII letters: between them and anything but
Japanese the space stays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.corpus.normalise.characters import TILDES

if TYPE_CHECKING:
    from kit.config.recipe import Normalise

# By blocks of Unicode, with the signs and marks in them: Latin-1 letters to Cyrillic and Armenian; on to
# Georgian; Hangul Jamo to Greek Extended; Glagolitic to Cyrillic Extended-A; compatibility Jamo; Yi to
# Hangul; presentation forms of Latin, Hebrew and Arabic; those of Arabic; ancient and lesser scripts.
# Except the two hyphens among them, which neologdn handles.
SPACED_SCRIPTS = (
    (0xAA, 0xAB), (0xB5, 0xB6), (0xBA, 0xBB), (0xC0, 0xD7), (0xD8, 0xF7), (0xF8, 0x2D7),
    (0x2D8, 0x58A), (0x58B, 0x2000), (0x2C00, 0x2E00), (0x3130, 0x3190), (0xA000, 0xD800),
    (0xFB00, 0xFE00), (0xFE70, 0xFEFF), (0x10000, 0x16FE0), (0x1E000, 0x1F000),
)  # fmt: skip
RANGE = "〜"
_BESIDE_LATIN, _BESIDE_JAPANESE = "\x01", "〓"
_STAND_INS = re.compile(f"[{_BESIDE_LATIN}{_BESIDE_JAPANESE}]")
_TOUCHED = re.compile(f"[{TILDES}{_BESIDE_LATIN}{_BESIDE_JAPANESE}]")
_SPACED = "".join(f"{chr(start)}-{chr(end - 1)}" for start, end in SPACED_SCRIPTS)
_TOUCHED_WITH_ACCENTS = re.compile(f"{_TOUCHED.pattern}|[{_SPACED}](?=[ {TILDES}])")

_URL = re.compile(r"(?:https?|ftp)://[!-~]+")
_CONTEXT = 12  # characters examined on each side of a tilde
_LETTER = r"[^\W\d_ぁ-ヿｦ-ﾟ]"  # of a script that is not kana
_KATAKANA = "ァ-ヺｦ-ｯｱ-ﾝ"
_VOICING = "゛゜ﾞﾟ"
_WORD = f"(?:[{_KATAKANA}][{_VOICING}]?[ーｰ]*){{2}}|{_LETTER}"
_WORD_BEFORE = re.compile(f"(?:{_WORD}|[）)」』])$")
_WORD_AFTER = re.compile(_WORD)
_UNIT = f"(?:{_LETTER}|[{_KATAKANA}{_VOICING}%％℃つか]){{0,4}}"
_NUMBER_BEFORE = re.compile(
    f"(?:[0-9０-９]{_UNIT}|[〇一二三四五六七八九十元](?:年|月|日|時|代|世紀))$"
)
_NUMBER_AFTER = re.compile("[0-9０-９]")
_DRAWN_BEFORE = re.compile(f"[ぁ-ゟ{_VOICING}]$")


def protect(line: str, options: Normalise) -> tuple[str, list[str]]:
    """Put stand-ins into a line; also returns the originals, in order.

    Every run of white space in the line must be a single plain space.
    """
    originals: list[str] = []
    urls = (
        {place for url in _URL.finditer(line) for place in range(*url.span()) if line[place] == "~"}
        if "://" in line
        else set()
    )

    def replace(match: re.Match[str]) -> str:
        place, original, beside = match.start(), match[0], _BESIDE_LATIN
        if place in urls:
            if not (options.keep_url_tildes and "!" <= line[place + 1 : place + 2] <= "}"):
                return original
        elif original in TILDES:
            if not (options.keep_ranges and _is_range(line, place)):
                return original
            original, beside = RANGE, _BESIDE_JAPANESE
        elif original == _BESIDE_JAPANESE:
            beside = original
        originals.append(original)
        return beside

    touched = _TOUCHED_WITH_ACCENTS if options.keep_accent_spaces else _TOUCHED
    return touched.sub(replace, line), originals


def restore(line: str, originals: list[str]) -> str:
    """Put the originals back into a line that neologdn has normalised."""
    following = iter(originals)
    return _STAND_INS.sub(lambda _: next(following), line) if originals else line


def _is_range(line: str, place: int) -> bool:
    before, after = line[max(0, place - _CONTEXT) : place], line[place + 1 : place + 1 + _CONTEXT]
    even = before.endswith(" ") == after.startswith(" ")
    before, after = before.removesuffix(" "), after.removeprefix(" ")
    if line[place] == "〰" or {before[-1:], after[:1]} & set(TILDES):
        return False
    if _NUMBER_BEFORE.search(before):
        return True
    if _NUMBER_AFTER.match(after):
        return not _DRAWN_BEFORE.search(before)
    if before[-1:] in ("」", "』") and after[:1] in ("「", "『"):
        return even
    return even and bool(_WORD_BEFORE.search(before) and _WORD_AFTER.match(after))
