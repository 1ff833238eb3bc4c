"""The ends of lines: Unicode's mandatory breaks in mode `default`, those of Python's files in `article`.

    line_ends.split("一行目\u2028二行目", line_ends.UNICODE)  # ["一行目", "二行目"]

Mandatory are the classes BK, CR, LF and NL of UAX #14: line feed, carriage return (both together are one
end), vertical tab, form feed, next line (U+0085), and the separators of lines and of paragraphs. The
article's script reads its text as Python reads files: only the first two end a line.
"""

from __future__ import annotations

# A set of line ends is named by those beside line feed and carriage return.
UNICODE, PYTHON = "\v\f\x85\u2028\u2029", ""


def of_mode(mode: str) -> str:
    """The line ends in a mode of the corpus."""
    return UNICODE if mode == "default" else PYTHON


def split(text: str, others: str) -> list[str]:
    """The lines of a text, without their ends; the last one may be empty."""
    return unified(text, others).split("\n")


def unified(text: str, others: str) -> str:
    """The text with a line feed for each line end."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for end in others:
        text = text.replace(end, "\n")
    return text


def count(text: str, others: str) -> int:
    """The number of line ends in a text."""
    return sum(map(text.count, f"\n\r{others}")) - text.count("\r\n")
