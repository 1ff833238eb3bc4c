"""Sentence splitting, equal to `ssplit` of ku-nlp/python-textformatting (commit decc088 of 2021)."""

from __future__ import annotations

import re

_PIECE = re.compile(r"[^。．？！♪…?!]+[。．？！♪…?!]*|[。．？！♪…?!]+")
_BRACKETS = re.compile(r"[（(）)「“」”]")


def split(line: str) -> list[str]:
    """The sentences of a line; joined, they are the line.

    A sentence ends behind a run of closing marks. Pieces are merged while round brackets, or corner
    brackets and quotation marks together, stand open; one unbalanced bracket merges the rest.
    """
    pieces = _PIECE.findall(line)
    if len(pieces) < 2 or not _BRACKETS.search(line):
        return pieces
    sentences, held = [], ""
    for piece in pieces:
        held += piece
        if _count(held, "（(") == _count(held, "）)") and _count(held, "「“") == _count(
            held, "」”"
        ):
            sentences.append(held)
            held = ""
    return [*sentences, held] if held else sentences


def _count(text: str, marks: str) -> int:
    return sum(map(text.count, marks))
