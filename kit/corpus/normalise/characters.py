"""neologdn 0.5.6 for many lines at once, with numpy.

neologdn goes through a line character by character. Its treatment of one depends on that one and its
neighbours, and follows from a table of flags over all code points. Lines with voicing marks, which join
the kana before them, and with byte order marks are left to neologdn itself. The table was read off
neologdn's output for every code point; the tests compare the two.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.uint32]
    Flags = NDArray[np.uint8]

LATIN = 1  # a space after it may stay
OPEN = 2  # a space before it may stay
VOWEL = 4  # written ー; one of a run stays
HYPHEN = 8  # written -; dropped after a -
CHANGED = 16  # written as another character
SPACE = 32  # one of a run stays, written as a plain one, between LATIN and OPEN
TILDE = 64  # dropped
HARD = 128  # left to neologdn
_FIRST_CHANGING = VOWEL  # a text whose flags are all below it stays unchanged

_CODE_POINTS = 0x110000
TILDES = "~∼∾〜〰～"
HYPHENS = "˗֊‐‑‒–⁃⁻₋−"
VOWELS = "—―─━ー﹣－ｰ"
_SPACES = " \u3000"
VOICING = "゛゜ﾞﾟ"  # join the kana before
LETTER = rf"[^\W_{VOICING}]"  # a letter or a digit, and no voicing mark
_LETTER = re.compile(LETTER)
_UNKNOWN = 2  # whether it is a letter
_BYTE_ORDER = "\ufeff"  # dropped if the normalised line begins with it
# White space of any kind; str.isspace and \s of re agree on it.
_WHITE = "\t\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
_WHITE += "\u2008\u2009\u200a\u2028\u2029\u202f\u205f"
# CJK symbols, kana, unified ideographs, half-width and full-width forms: spaces beside them are dropped.
_JAPANESE = ((0x3001, 0x3100), (0x4E00, 0xA000), (0xFF00, 0xFFF0))

_FULL_WIDTH = (
    "!#$%&()*+,./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz{|}"
)
_OTHER_SIGNS = {"¥": "\\", "‘": "`", "’": "'", "“": '"', "”": '"'}
_HALF_WIDTH_KANA = (0xFF61, 0xFF9E)  # with punctuation; the voicing marks follow them


class CodePointTable:
    """Flags and output by code point.

    `latin` are ranges that count as Latin in addition to ASCII. The characters `kept` stay, and count as
    Latin. Lines with one of `hard` are left to neologdn. With `spaces`, one of a run of spaces also stays
    between letters or digits.
    """

    def __init__(
        self,
        *,
        white: bool,
        latin: Iterable[tuple[int, int]] = (),
        kept: str = "",
        hard: str = "",
        spaces: bool = False,
    ) -> None:
        import numpy as np

        flags = np.full(_CODE_POINTS, OPEN, np.uint8)
        self.written = np.arange(_CODE_POINTS, dtype=np.uint32)
        for start, end in _JAPANESE:
            flags[start:end] = 0
        for before, after in _changes():
            self.written[ord(before)] = ord(after)
            flags[ord(before)] = CHANGED | (flags[ord(after)] & OPEN)
        for flag, characters in ((HYPHEN, HYPHENS), (VOWEL, VOWELS)):
            flags[_points(characters)] = flag | OPEN | CHANGED
        self.written[_points(HYPHENS)] = ord("-")
        self.written[_points(VOWELS)] = ord("ー")
        flags[ord("ー")] = VOWEL | OPEN
        flags[(self.written < 128) & (self.written != ord("*"))] |= LATIN
        for start, end in latin:
            flags[start:end] |= LATIN
        flags[_points(_SPACES + (_WHITE if white else ""))] = SPACE
        flags[_points(TILDES)] = TILDE
        flags[_points(kept)] = LATIN | OPEN
        self.written[_points(kept)] = _points(kept)
        flags[_points(VOICING + _BYTE_ORDER + hard)] = HARD
        flags[ord("\n")] = 0
        self.flags = flags
        self._spaces = spaces

    def normalise(self, text: str) -> tuple[str, list[int]]:
        """Normalise lines joined by line feeds; also returns the numbers of those left to neologdn.

        Takes up to sixty bytes of memory per character. Raises UnicodeEncodeError for a lone surrogate.
        """
        import numpy as np

        codes = np.frombuffer(f"\n{text}\n".encode("utf-32-le"), np.uint32)
        flags = self.flags[codes]
        if flags.max() < _FIRST_CHANGING:
            return text, []
        hard = _places(flags, HARD)
        lines = np.searchsorted(np.flatnonzero(codes == ord("\n")), hard) - 1 if len(hard) else hard
        codes, flags = _close_gaps(self.written[codes], flags, codes if self._spaces else None)
        codes = _shorten_runs(codes, flags)
        return codes[1:-1].tobytes().decode("utf-32-le"), sorted(set(lines.tolist()))


def _places(flags: Flags, flag: int) -> NDArray[np.intp]:
    """Where a flag is set."""
    import numpy as np

    return np.flatnonzero(flags & flag != 0)  # numpy looks through truth values the quickest


def _close_gaps(codes: Codes, flags: Flags, before: Codes | None) -> tuple[Codes, Flags]:
    """Drop spaces and tildes, except one space of a run that may stay by both its neighbours.

    `before` are the codes before normalisation, if spaces between letters stay.
    """
    import numpy as np

    gap = flags & (SPACE | TILDE) != 0
    positions = np.flatnonzero(gap)
    if not len(positions):
        return codes, flags
    first, last = positions[~gap[positions - 1]], positions[~gap[positions + 1]]
    # neologdn ignores a tilde: a run of nothing else leaves no space.
    kinds = np.bitwise_or.reduceat(flags[positions], np.searchsorted(positions, first))
    may_stay = (flags[first - 1] & LATIN != 0) & (flags[last + 1] & OPEN != 0)
    if before is not None:
        beside = _are_letters(before[first - 1]) & _are_letters(before[last + 1])
        may_stay |= beside & (kinds == SPACE)
    stays = first[may_stay & (kinds & SPACE != 0)]
    codes[stays] = ord(" ")
    gap[stays] = False
    return codes[~gap], flags[~gap]


def _are_letters(codes: Codes) -> NDArray[np.bool_]:
    """Which code points match `LETTER`."""
    import numpy as np

    known = _letters()
    found = known[codes]
    new = codes[found == _UNKNOWN]
    if len(new):
        for code in set(new.tolist()):
            known[code] = bool(_LETTER.match(chr(code)))
        found = known[codes]
    return found.astype(np.bool_)


@functools.cache
def _letters() -> Flags:
    """By code point, whether it matches `LETTER`, as far as that was asked: to ask all takes 30 ms."""
    import numpy as np

    return np.full(_CODE_POINTS, _UNKNOWN, np.uint8)


def _shorten_runs(codes: Codes, flags: Flags) -> Codes:
    """Drop the hyphens and long vowels that follow another one."""
    import numpy as np

    vowels, hyphens = _places(flags, VOWEL), _places(flags, HYPHEN)
    again = np.concatenate(
        [
            vowels[flags[vowels - 1] & VOWEL != 0],
            hyphens[codes[hyphens - 1] == ord("-")],  # including the plain one, which is not HYPHEN
        ]
    )
    return np.delete(codes, again) if len(again) else codes


def _changes() -> Iterator[tuple[str, str]]:
    yield from ((chr(ord(after) + 0xFEE0), after) for after in _FULL_WIDTH)
    yield from _OTHER_SIGNS.items()
    for code in range(*_HALF_WIDTH_KANA):
        yield chr(code), unicodedata.normalize("NFKC", chr(code))


def _points(characters: str) -> list[int]:
    return list(map(ord, characters))
