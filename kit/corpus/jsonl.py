"""JSON lines: one object a line, whose `text_key` holds the text of a document."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from kit.corpus.plaintext import DOCUMENT_LINES
from kit.corpus.raw.lines import LINE_BYTES, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.corpus.bad_input import BadInput
    from kit.store.records import Piece

RECORD_BYTES = 1 << 24  # of an object: a whole novel in \u escapes, and a limit on a task's memory
_SURROGATE = re.compile("[\ud800-\udfff]")


def documents(piece: Piece, faults: BadInput, limit: int = RECORD_BYTES) -> Iterator[list[str]]:
    """The documents of a piece, each as its lines that are not empty; a blank line is none.

    Raises InputError for what is no text. Faults are those of lines (`not_utf8`, `nul`,
    `line_too_long`) and `not_json`, `not_an_object`, `no_text`, `text_is_no_string`, `surrogate` and
    `document_too_long`; but for a line that is too long within the text, the document is passed over.
    """
    source = Lines(piece, limit)
    for raw in source:
        if not source.owned:
            return
        if raw is not None and (not raw or raw.isspace()):
            continue
        record = source.text(raw, faults)
        text = None if record is None else _text(record, piece["text_key"], source.place, faults)
        lines = [] if text is None else _lines(text, source.place, faults)
        if lines:
            yield lines


def _text(record: str, key: str, place: str, faults: BadInput) -> str | None:
    try:
        value = json.loads(record)
    except (ValueError, RecursionError) as error:
        faults.report("not_json", f"{place}: is not JSON ({error}); write an object a line")
        return None
    if not isinstance(value, dict):
        faults.report("not_an_object", f"{place}: is no JSON object; write an object a line")
        return None
    if key not in value:
        keys = ", ".join(map(repr, list(value)[:5]))
        faults.report(
            "no_text", f"{place}: has no key {key!r}, but {keys or 'none':.200}; see text_key"
        )
        return None
    text = value[key]
    if not isinstance(text, str):
        faults.report("text_is_no_string", f"{place}: {key!r} holds no string; see text_key")
        return None
    return _checked(text, key, place, faults)


def _checked(text: str, key: str, place: str, faults: BadInput) -> str | None:
    """The text, if no escape made what is no character of it."""
    if "\0" in text:
        faults.report("nul", f"{place}: {key!r} holds NUL; is this a text? Take it out")
    elif _SURROGATE.search(text):
        faults.report(
            "surrogate", f"{place}: {key!r} holds half a \\u pair; write the text as UTF-8"
        )
    elif text.count("\n") >= DOCUMENT_LINES:
        faults.report(
            "document_too_long", f"{place}: {key!r} has over {DOCUMENT_LINES} lines; write several"
        )
    else:
        return text
    return None


def _lines(text: str, place: str, faults: BadInput) -> list[str]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    lines = [line for line in lines if line.strip()]
    if len(text) * 4 <= LINE_BYTES:
        return lines
    short = [line for line in lines if len(line.encode()) <= LINE_BYTES]
    if len(short) < len(lines):
        faults.report(
            "line_too_long",
            f"{place}: a line of the text has over {LINE_BYTES} bytes; break the line",
            len(lines) - len(short),
        )
    return short
