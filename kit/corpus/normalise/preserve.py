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

Other tildes: an ASCII ~ stays one if the character before or after is of printable ASCII (~/bin, a~),
otherwise it is written 〜, as is ～.

Minus: － and ﹣ are written -, unless they stand for ー: after katakana other than ン and ッ, and not
before a digit (センタ－).

Spaces: one space stays between two letters or digits (甲太郎 乙次郎). Beside punctuation and brackets,
which set words apart themselves, neologdn's rule applies.

Accent spaces: neologdn drops the space after a letter unless it is ASCII. Here the letters of scripts
written with spaces, accented Latin among them, count as ASCII letters: between them and anything but
Japanese the space stays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.corpus.normalise.characters import LETTER, TILDES, VOICING

if TYPE_CHECKING:
    from collections.abc import Container

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
DASHES, MINUS, SCRIPT_MINUS, QUOTES, YEN = "―—–─━", "－﹣", "⁻₋", "‘’“”", "¥"
_BESIDE_LATIN, _BESIDE_JAPANESE = "\x01", "〓"
_STAND_INS = re.compile(f"[{_BESIDE_LATIN}{_BESIDE_JAPANESE}]")
_SPACED = "".join(f"{chr(start)}-{chr(end - 1)}" for start, end in SPACED_SCRIPTS)

_URL = re.compile(r"(?:https?|ftp)://[!-~]+")
_CONTEXT = 12  # characters examined on each side of a tilde
_LETTER = r"[^\W\d_ぁ-ヿｦ-ﾟ]"  # of a script that is not kana
_KATAKANA = "ァ-ヺｦ-ｯｱ-ﾝ"
_WORD = f"(?:[{_KATAKANA}][{VOICING}]?[ーｰ]*){{2}}|{_LETTER}"
_WORD_BEFORE = re.compile(f"(?:{_WORD}|[）)」』])$")
_WORD_AFTER = re.compile(_WORD)
_UNIT = f"(?:{_LETTER}|[{_KATAKANA}{VOICING}%％℃つか]){{0,4}}"
_NUMBER_BEFORE = re.compile(
    f"(?:[0-9０-９]{_UNIT}|[〇一二三四五六七八九十元](?:年|月|日|時|代|世紀))$"
)
_NUMBER_AFTER = re.compile("[0-9０-９]")
_DRAWN_BEFORE = re.compile(f"[ぁ-ゟ{VOICING}]$")
_VOWEL_BEFORE = re.compile(f"(?![ンッﾝｯ])[{_KATAKANA}][{VOICING}]?[ーｰ{MINUS}]*$")
_ASCII = re.compile("[!-}]")


def kept(options: Normalise) -> str:
    """The characters that stay as they are, wherever they stand."""
    sorts = {
        DASHES: options.keep_dashes,
        SCRIPT_MINUS: options.keep_minus,
        QUOTES: options.keep_quotes,
        YEN: options.keep_yen,
    }
    return "".join(characters for characters, keep in sorts.items() if keep)


def hard(options: Normalise) -> str:
    """The characters whose surroundings decide about them."""
    tildes = options.keep_ranges or options.keep_url_tildes or options.keep_tildes
    return TILDES * tildes + MINUS * options.keep_minus


class Preserver:
    """Puts stand-ins into lines, as options say, and takes them out again."""

    def __init__(self, options: Normalise) -> None:
        self._options = options
        touched = f"{_BESIDE_LATIN}{_BESIDE_JAPANESE}{TILDES}{kept(options)}{hard(options)}"
        # All begin with one set of characters, which `re` looks for quickly.
        first, conditions = touched, [f"(?<=[{touched}])"]
        if options.keep_accent_spaces:
            first += _SPACED
            conditions.append(f"(?<=[{_SPACED}])(?=[ {TILDES}])")
        if options.keep_spaces:
            first += " "
            conditions.append(f"(?<={LETTER} )(?={LETTER})")
        self._touched = re.compile(f"[{first}](?:{'|'.join(conditions)})")

    def protect(self, line: str) -> tuple[str, list[str]]:
        """Put stand-ins into a line; also returns the originals, in order.

        Every run of white space in the line must be a single plain space.
        """
        originals: list[str] = []
        urls = _tildes_of_urls(line)

        def replace(match: re.Match[str]) -> str:
            text, stand_in = self._original(line, match.start(), urls)
            if stand_in:
                originals.append(text)
            return stand_in or text

        return self._touched.sub(replace, line), originals

    def _original(self, line: str, place: int, urls: Container[int]) -> tuple[str, str]:
        """What a character stays as, and its stand-in; without one it is left to neologdn."""
        options, character = self._options, line[place]
        if place in urls:
            kept = options.keep_tildes or (
                options.keep_url_tildes and _ASCII.match(line, place + 1)
            )
            return character, _BESIDE_LATIN if kept else ""
        if character in TILDES:
            return self._tilde(line, place)
        if character in MINUS and options.keep_minus:
            return ("ー", "") if _is_vowel(line, place) else ("-", _BESIDE_LATIN)
        return character, _BESIDE_JAPANESE if character == _BESIDE_JAPANESE else _BESIDE_LATIN

    def _tilde(self, line: str, place: int) -> tuple[str, str]:
        character = line[place]
        if self._options.keep_ranges and _is_range(line, place):
            return RANGE, _BESIDE_JAPANESE
        if not self._options.keep_tildes:
            return character, ""
        if character in "∼∾" or (character == "~" and _is_ascii(line, place)):
            return character, _BESIDE_LATIN
        return "〰" if character == "〰" else RANGE, _BESIDE_JAPANESE


def restore(line: str, originals: list[str]) -> str:
    """Put the originals back into a line that neologdn has normalised."""
    following = iter(originals)
    return _STAND_INS.sub(lambda _: next(following), line) if originals else line


def _tildes_of_urls(line: str) -> Container[int]:
    if "://" not in line:
        return ()
    urls = (match.span() for match in _URL.finditer(line))
    return {place for span in urls for place in range(*span) if line[place] == "~"}


def _is_ascii(line: str, place: int) -> bool:
    """Whether a run of tildes is beside a character of printable ASCII."""
    before = line[max(0, place - _CONTEXT) : place].rstrip(TILDES)
    after = line[place : place + _CONTEXT].lstrip(TILDES)
    return bool(_ASCII.match(before[-1:]) or _ASCII.match(after[:1]))


def _is_vowel(line: str, place: int) -> bool:
    before, after = line[max(0, place - _CONTEXT) : place], line[place + 1 : place + 2]
    return bool(_VOWEL_BEFORE.search(before)) and not _NUMBER_AFTER.match(after)


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
