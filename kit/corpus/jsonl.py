"""JSON lines: one object per line, with the text of a document under `text_key`.

Between objects stands a line feed or a carriage return; other line ends may occur unescaped in a string.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from kit.corpus import line_ends
from kit.corpus.identity import Identified
from kit.corpus.plaintext import DOCUMENT_LINES
from kit.corpus.raw.lines import LINE_BYTES, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.corpus.identity import Keys
    from kit.store.records import Piece

RECORD_BYTES = 1 << 24  # of one object: fits a novel in \u escapes, and bounds a task's memory
_SURROGATE = re.compile("[\ud800-\udfff]")


def documents(
    piece: Piece,
    bad_input: BadInput,
    limit: int = RECORD_BYTES,
    others: str = line_ends.UNICODE,
    keys: Keys | None = None,
) -> Iterator[list[str]]:
    """Yield the documents of a piece as lists of non-empty lines; blank lines of the file are ignored.

    Line feed, carriage return and `others` end a line of a text. With `keys` the lists have identities.

    Raises InputError for a file that is not text. The kinds of bad input are those of lines
    (`not_utf8`, `nul`, `line_too_long`) and `not_json`, `not_an_object`, `no_text`,
    `text_is_no_string`, `surrogate` and `document_too_long`. Each skips the document, except a line of
    the text that is too long: it alone is skipped.
    """
    source = Lines(piece, limit, line_ends.PYTHON)
    for raw in source:
        assert not isinstance(raw, list)  # as there is no room for one
        if not source.owned:
            return
        if raw is not None and (not raw or raw.isspace()):
            continue
        record = source.text(raw, bad_input)
        key = piece["text_key"]
        value = None if record is None else _object(record, source.place, bad_input)
        text = None if value is None else _text(value, key, source.place, bad_input)
        found = [] if text is None else lines(text, key, others, source.place, bad_input)
        if found:
            yield (
                found if keys is None or value is None else Identified(found, keys.identity(value))
            )


def lines(text: str, key: str, others: str, place: str, bad_input: BadInput) -> list[str]:
    """The non-empty lines of a text that is the value of `key`; none if it is bad, as reported."""
    checked = _checked(text, key, place, bad_input)
    return [] if checked is None else _lines(checked, others, place, bad_input)


def _object(record: str, place: str, bad_input: BadInput) -> dict[str, Any] | None:
    try:
        value = json.loads(record)
    except (ValueError, RecursionError) as error:
        bad_input.report(
            "not_json", f"{place}: not valid JSON ({error}); write one object per line"
        )
        return None
    if not isinstance(value, dict):
        bad_input.report("not_an_object", f"{place}: not a JSON object; write one object per line")
        return None
    return value


def _text(value: dict[str, Any], key: str, place: str, bad_input: BadInput) -> str | None:
    if key not in value:
        keys = ", ".join(map(repr, list(value)[:5]))
        bad_input.report(
            "no_text",
            f"{place}: no key {key!r} (keys: {keys or 'none':.200}); set text_key to the key of the text",
        )
        return None
    text = value[key]
    if not isinstance(text, str):
        bad_input.report(
            "text_is_no_string",
            f"{place}: {key!r} is not a string; set text_key to the key of the text",
        )
        return None
    return text


def _checked(text: str, key: str, place: str, bad_input: BadInput) -> str | None:
    """The text, unless its escapes produced NUL or half a surrogate pair, or it has too many lines."""
    if "\0" in text:
        bad_input.report("nul", f"{place}: {key!r} contains NUL; is this text? Remove the NUL")
    elif _SURROGATE.search(text):
        bad_input.report(
            "surrogate",
            f"{place}: {key!r} contains half a \\u surrogate pair; write the text as UTF-8",
        )
    elif len(text) >= DOCUMENT_LINES and line_ends.count(text, line_ends.UNICODE) >= DOCUMENT_LINES:
        bad_input.report(
            "document_too_long",
            f"{place}: {key!r} has more than {DOCUMENT_LINES} lines; split it into several documents",
        )
    else:
        return text
    return None


def _lines(text: str, others: str, place: str, bad_input: BadInput) -> list[str]:
    lines = [line for line in line_ends.split(text, others) if line.strip()]
    if len(text) * 4 <= LINE_BYTES:
        return lines
    short = [line for line in lines if len(line.encode()) <= LINE_BYTES]
    if len(short) < len(lines):
        bad_input.report(
            "line_too_long",
            f"{place}: a line of the text has more than {LINE_BYTES} bytes; break the line",
            len(lines) - len(short),
        )
    return short
