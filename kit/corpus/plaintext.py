"""Plain text in the format of CC-100: lines, with a blank line between documents.

The ends of lines depend on the mode (line_ends.py).

A blank line is empty or has only ASCII white space. A line of other white space, such as an ideographic
space, is dropped and does not separate documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.corpus import line_ends
from kit.corpus.raw.lines import LINE_BYTES, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.store.records import Piece

# Limits of a document, to bound a task's memory: a million short lines take more than their text.
DOCUMENT_CHARACTERS = 1 << 24
DOCUMENT_LINES = 1 << 20
_ASCII_SPACE = " \t\n\r\v\f"  # as in bytes.isspace


def documents(
    piece: Piece,
    bad_input: BadInput,
    characters: int = DOCUMENT_CHARACTERS,
    limit: int = DOCUMENT_LINES,
    others: str = line_ends.UNICODE,
) -> Iterator[list[str]]:
    """Yield the documents of a piece as lists of non-empty lines.

    In a range of a text, a document belongs to the piece in which the blank line just before it starts.
    Raises InputError for a file that is not text. The kinds of bad input are `not_utf8`, `nul` and
    `line_too_long` (which skip the line), and `document_too_long`.
    """
    source = Lines(piece, LINE_BYTES, others)
    mine = source.at_head  # whether the current document belongs to the piece
    lines: list[str] = []
    left = characters  # below zero: the current document is being skipped
    source.room = min(left, 2 * limit) if mine else 0
    for raw in source:
        if isinstance(raw, list):
            *complete, rest = _split(raw)
            for part in complete:
                if lines or part:
                    yield lines + part
                lines, left = [], characters
            lines += rest
            left -= sum(map(len, rest))
        elif raw is not None and (not raw or raw.isspace()):
            if lines:
                yield lines
            if not source.owned:
                return
            mine, lines, left = True, [], characters
        elif not mine and not source.owned:
            return
        elif mine and left >= 0:
            text = source.text(raw, bad_input)
            if text is None or not text.strip():
                continue
            lines.append(text)
            left -= len(text)
            if left < 0 or len(lines) > limit:
                lines, left = [], -1
                bad_input.report(
                    "document_too_long",
                    f"{source.place}: the document has more than {characters} characters or {limit} "
                    "lines; put blank lines between documents",
                )
        # So much cannot make the document too long: a line that is not empty takes two bytes.
        source.room = min(left, 2 * (limit - len(lines))) if mine else 0
    if lines:
        yield lines


def _split(lines: list[str]) -> list[list[str]]:
    """The parts of a text between its blank lines, without lines of other white space."""
    visible = [*map(str.strip, lines)]
    if visible.count("") > lines.count(""):
        pairs = zip(lines, visible, strict=True)
        lines = [line if t else "" for line, t in pairs if t or not line.strip(_ASCII_SPACE)]
    parts = []
    first = 0
    for _ in range(lines.count("")):
        last = lines.index("", first)
        parts.append(lines[first:last])
        first = last + 1
    return [*parts, lines[first:]]
