"""The documents of a piece of raw text, from a source of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kit.corpus import line_ends
from kit.corpus.raw import pieces

if TYPE_CHECKING:
    from collections.abc import Generator

    from kit.config.wikipedia import Wikipedia
    from kit.corpus.bad_input import BadInput
    from kit.corpus.dump.tally import Tally
    from kit.corpus.identity import Keys
    from kit.store.records import Piece


def read(
    piece: Piece,
    bad_input: BadInput,
    mode: Literal["default", "article"],
    wiki: Wikipedia | None = None,
    tally: Tally | None = None,
    keys: Keys | None = None,
) -> Generator[list[str], None, None]:
    """Yield each document as a list of non-empty lines.

    `wiki` is the section of the recipe for Wikipedia dumps, `tally` counts the parts of these left out.
    With `keys` the lists have the identity of their document (identity.py), as far as the source has it.
    Raises InputError if the raw text is damaged, or has changed since ekiden download cut it, even while
    it is read.
    """
    # Each kind is imported where it is read: the tables and patterns of a dump take a tenth of a second.
    pieces.refuse_changed(piece)
    others = line_ends.of_mode(mode)
    if piece["kind"] == "wikipedia":
        from kit.corpus import wikipedia

        yield from wikipedia.documents(piece, bad_input, mode, section=wiki, tally=tally, keys=keys)
    elif piece["kind"] == "jsonl":
        from kit.corpus import jsonl

        yield from jsonl.documents(piece, bad_input, others=others, keys=keys)
    elif piece["kind"] == "parquet":
        from kit.corpus import parquet

        yield from parquet.documents(piece, bad_input, others, keys)
    else:
        from kit.corpus import plaintext

        yield from plaintext.documents(piece, bad_input, others=others)
    # A file truncated in the meantime has lost documents without any error.
    pieces.refuse_changed(piece)
