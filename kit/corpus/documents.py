"""The documents of a piece of raw text, whatever kind of source it was cut from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kit.corpus import jsonl, plaintext, wikipedia
from kit.corpus.raw import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.store.records import Piece


def read(
    piece: Piece, faults: BadInput, mode: Literal["default", "article"]
) -> Iterator[list[str]]:
    """Each document as its lines, which are not empty. Raises InputError where the raw text is damaged,
    or not what jobs.download found, be it that it changes while it is read.
    """
    pieces.refuse_changed(piece)
    if piece["kind"] == "wikipedia":
        yield from wikipedia.documents(piece, faults, mode)
    elif piece["kind"] == "jsonl":
        yield from jsonl.documents(piece, faults)
    else:
        yield from plaintext.documents(piece, faults)
    pieces.refuse_changed(
        piece
    )  # a file cut short in the meantime has lost documents without a fault
