"""Plain text as CC-100 has it: lines, and a blank line between documents.

A blank line is one of nothing but ASCII white space. A line of other white space, as an ideographic
space, is left out, and parts no documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.corpus.raw.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.store.records import Piece

# Of a document: limits on a task's memory. A million short lines take more of it than their text.
DOCUMENT_CHARACTERS = 1 << 24
DOCUMENT_LINES = 1 << 20


def documents(
    piece: Piece,
    faults: BadInput,
    characters: int = DOCUMENT_CHARACTERS,
    limit: int = DOCUMENT_LINES,
) -> Iterator[list[str]]:
    """The documents of a piece, each as its lines that are not empty.

    In a range of a text a document belongs to the piece in which the blank line just before it
    starts. Raises InputError for what is no text; faults are `not_utf8`, `nul` and `line_too_long`
    (the line is passed over), and `document_too_long`.
    """
    source = Lines(piece)
    mine = source.at_head  # whether the document at hand belongs to the piece
    lines: list[str] = []
    left = characters  # below zero: the document at hand is passed over
    for raw in source:
        if raw is not None and (not raw or raw.isspace()):
            if lines:
                yield lines
            if not source.owned:
                return
            mine, lines, left = True, [], characters
        elif not mine:
            if not source.owned:
                return
        elif left >= 0:
            text = source.text(raw, faults)
            if text is None or not text.strip():
                continue
            lines.append(text)
            left -= len(text)
            if left < 0 or len(lines) > limit:
                lines, left = [], -1
                faults.report(
                    "document_too_long",
                    f"{source.place}: the document has over {characters} characters or {limit} lines; "
                    "put blank lines between documents",
                )
    if lines:
        yield lines
