"""MeCab's words for many texts at once, in half its time, by compiled code (search.py).

lattice = Lattice(dictionary, segment, longest=4096)
lattice.words(["東京都に住む", "駅伝"])    # ["東京 都 に 住む", "駅伝"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.corpus.segmenters.dictionary import Dictionary

    Array = np.ndarray[Any, Any]

# As in search.py, which only numba can import: characters that it takes at once, and on to the end of a
# text; the numbers of which its records consist.
_BLOCK, _MATCH, _NODE, _SIDE, _OPEN = 2048, 3, 5, 5, 3
_MATCHES, _NODES = 1 << 16, 1 << 18  # room for a block: ten times what usual text needs
_ENDS = 32  # of unknown words that begin at one place: at most 17
# MeCab skips the first three, C takes NUL for the end of a text, fugashi strips white space from its end,
# and MeCab's table of kinds ends before the last.
_ODD = "\t\n\v\0\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\uffff"
_ODD += "".join(map(chr, range(0x2000, 0x200B)))


class Lattice:
    """A dictionary, the `segment` of search.py, and room for it to work on texts of up to `longest`."""

    def __init__(self, found: Dictionary, segment: Callable[..., int], longest: int) -> None:
        self._segment = segment
        kinds = found.kinds.copy()
        kinds[[*map(ord, _ODD)]] = 0
        most = _BLOCK + longest + 1
        first, runs, ending = (np.empty(most, np.int32) for _ in range(3))
        matches, nodes = np.empty(_MATCHES * _MATCH, np.int32), np.empty(_NODES * _NODE, np.int32)
        side, opened = np.empty(found.sides * _SIDE, np.int32), np.empty(_NODES * _OPEN, np.int32)
        ends = np.empty(_ENDS, np.int32)
        self._arguments: list[Array | int] = [
            most, found.units, found.tokens, found.matrix, found.sides, kinds, found.unknown,
            found.unknown_words, first, matches, _MATCHES, runs, ending, nodes, _NODES, side, opened, ends,
        ]  # fmt: skip

    def words(self, texts: Sequence[str]) -> list[str]:
        """The words of each text, joined by spaces; nothing for a text that MeCab has to be asked for.

        Texts have no spaces or line feeds, and at most `longest` characters. Raises UnicodeEncodeError for
        a lone surrogate.
        """
        codes = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le"), np.uint32)
        spaced, starts = np.empty(2 * len(codes), np.uint32), np.zeros(len(codes), np.uint8)
        arguments = [codes, len(codes), spaced, starts, *self._arguments]
        size = self._segment(*map(_address, arguments))
        assert size >= len(texts), max(map(len, texts))
        return spaced[:size].tobytes().decode("utf-32-le").split("\n")[:-1]


def _address(argument: Array | int) -> int:
    return argument if isinstance(argument, int) else argument.ctypes.data
