"""Parquet: one row per document, with its text in the column `text_key`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.corpus import jsonl, line_ends
from kit.corpus.identity import Identified
from kit.corpus.raw import parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.corpus.identity import Keys
    from kit.store.records import Piece


def documents(
    piece: Piece,
    bad_input: BadInput,
    others: str = line_ends.UNICODE,
    keys: Keys | None = None,
) -> Iterator[list[str]]:
    """Yield the documents of a piece as lists of non-empty lines.

    Line feed, carriage return and `others` end a line. With `keys` the lists have identities.

    Raises InputError for a file that is damaged, or lacks a column of `keys`. The kinds of bad input are
    `no_text` (a null), `not_utf8` and those of the text of a JSON line: `nul`, `document_too_long` and
    `line_too_long`.
    """
    path, key = Path(piece["path"]), piece["text_key"]
    more = [name for name in keys or () if name]
    for row, raw, values in parquet.rows(path, piece["start"], piece["end"], key, more):
        place = f"{path}, row {row}"
        text = _decoded(raw, key, place, bad_input)
        lines = [] if text is None else jsonl.lines(text, key, others, place, bad_input)
        if lines:
            yield lines if keys is None else Identified(lines, keys.identity(values))


def _decoded(raw: bytes | None, key: str, place: str, bad_input: BadInput) -> str | None:
    if raw is None:
        bad_input.report("no_text", f"{place}: {key!r} is null; leave such rows out")
        return None
    if len(raw) > jsonl.RECORD_BYTES:
        bad_input.report(
            "document_too_long",
            f"{place}: {key!r} has more than {jsonl.RECORD_BYTES} bytes; split it into several documents",
        )
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        bad_input.report(
            "not_utf8",
            f"{place}: byte {error.start + 1} of {key!r} is not UTF-8; write it as UTF-8",
        )
        return None
