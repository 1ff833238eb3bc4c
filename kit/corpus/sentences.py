"""Sentence splitting, as `ssplit` of ku-nlp/python-textformatting does it (commit decc088 of 2021).

`ssplit` strips the white space around a sentence, and drops a sentence of nothing else: `strip=True` gives
just what it gives. Without, sentences joined are the line.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_MARKS = "。．？！♪…?!"
_ROUND, _CORNER = ("（(", "）)"), ("「“", "」”")  # opening, closing
_PIECE = re.compile(f"[^{_MARKS}]+[{_MARKS}]*|[{_MARKS}]+")
_BRACKETS = re.compile(f"[{''.join(_ROUND + _CORNER)}]")
_SHORT_TEXT = 5000  # characters; line by line is quicker below this
_MARK = 1  # the kind of a closing mark; greater ones are brackets


def split(line: str) -> list[str]:
    """Split a line without line feeds into sentences; joined, they are the line.

    A sentence ends after a run of closing marks. Pieces are merged while round brackets are open, or
    corner brackets and quotation marks counted together; one unbalanced bracket merges the rest.
    """
    pieces = _PIECE.findall(line)
    if len(pieces) < 2 or not _BRACKETS.search(line):
        return pieces
    sentences, sentence, open_round, open_corner = [], [], 0, 0
    for piece in pieces:
        sentence.append(piece)
        open_round += _opened(piece, *_ROUND)
        open_corner += _opened(piece, *_CORNER)
        if open_round == open_corner == 0:
            sentences.append("".join(sentence))
            sentence.clear()
    return [*sentences, "".join(sentence)] if sentence else sentences


def cut_lines(lines: Sequence[str], *, strip: bool = False) -> tuple[str, list[int]]:
    """Split lines that have no line feeds; returns all sentences joined by line feeds, and the number
    of each line. An empty line counts as one empty sentence; with `strip`, a blank line as none.
    """
    text, counts = _cut_lines(lines)
    if not strip:
        return text, counts
    sentences = [sentence.strip() for sentence in text.split("\n")]
    if not all(sentences):
        flat = iter(sentences)
        rows = [list(filter(None, itertools.islice(flat, count))) for count in counts]
        sentences, counts = [*itertools.chain.from_iterable(rows)], [*map(len, rows)]
    return "\n".join(sentences), counts


def _cut_lines(lines: Sequence[str]) -> tuple[str, list[int]]:
    text = "\n".join(lines)
    if len(text) < _SHORT_TEXT:
        pieces = [split(line) or [""] for line in lines]
        return "\n".join(itertools.chain.from_iterable(pieces)), list(map(len, pieces))
    import numpy as np

    codes = np.frombuffer(f"{text}\n".encode("utf-32-le"), np.uint32)
    ends = np.flatnonzero(codes == ord("\n"))  # of the lines
    cuts = _cuts(_kinds()[codes], ends)
    cut = np.insert(codes[:-1], cuts, ord("\n")).tobytes().decode("utf-32-le")
    counts: list[int] = (np.diff(np.searchsorted(cuts, ends), prepend=0) + 1).tolist()
    return cut, counts


def _cuts(kinds: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.intp]:
    """The positions of the characters that begin a sentence within a line."""
    import numpy as np

    marks = np.flatnonzero(kinds == _MARK)
    cuts = marks[kinds[marks + 1] != _MARK] + 1
    owners = np.searchsorted(ends, cuts)
    inner = cuts != ends[owners]
    cuts, owners = cuts[inner], owners[inner]
    brackets = np.flatnonzero(kinds > _MARK)
    # The number of open brackets before each bracket, and after the last: both sorts in one number,
    # the corner ones in its lower half. A cut is valid if as many are open as before its line.
    sorts = np.array([0, 0, 1 << 32, -(1 << 32), 1, -1], np.int64)
    opened = np.concatenate([[0], np.cumsum(sorts[kinds[brackets]])])
    starts = np.concatenate([[0], ends[:-1]])[owners]
    outside: NDArray[np.intp] = cuts[
        opened[np.searchsorted(brackets, cuts)] == opened[np.searchsorted(brackets, starts)]
    ]
    return outside


@functools.cache
def _kinds() -> NDArray[np.uint8]:
    """The kind of each code point: closing mark, bracket, or 0 for neither."""
    import numpy as np

    kinds = np.zeros(0x110000, np.uint8)
    for kind, characters in enumerate((_MARKS, *_ROUND, *_CORNER), start=_MARK):
        kinds[list(map(ord, characters))] = kind
    return kinds


def _opened(text: str, opening: str, closing: str) -> int:
    return sum(map(text.count, opening)) - sum(map(text.count, closing))
