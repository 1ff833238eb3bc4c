"""Any text as HTML or XML: escaped, and without characters that these do not allow."""

from __future__ import annotations

import re
from html import escape

# Control characters, halves of surrogate pairs, and two that are no characters.
_INVALID = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def escaped(value: object, most: int = 300) -> str:
    """A value as text of HTML, cut after `most` characters; invalid ones become U+FFFD."""
    plain = _INVALID.sub("\ufffd", str(value))
    return escape(f"{plain[:most]} …" if len(plain) > most else plain)
