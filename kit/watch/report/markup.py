"""Pieces of HTML, with every text escaped and no longer than it may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.output.escaped import escaped
from kit.output.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = 24  # characters, such as a date


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


def text(value: object, most: int = 300) -> Markup:
    """A value as HTML: escaped, invalid characters replaced, cut after `most` characters."""
    if isinstance(value, Markup):
        return value
    return Markup(escaped(value, most))


def private(value: object, most: int = 300) -> Markup:
    """The same without secrets, user names and home directories."""
    return text(redacted(str(value)), most)


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A table; its first column names the rows, columns of numbers are aligned to the right."""
    numeric = [
        bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(head))
    ]
    kinds = [' class="number"' if one else "" for one in numeric]
    heads = "".join(
        f'<th scope="col"{kind}>{text(name)}</th>' for name, kind in zip(head, kinds, strict=True)
    )
    body = "".join(f"<tr>{_row(row, kinds)}</tr>\n" for row in rows)
    return Markup(
        f'<div class="wide" role="region" aria-label="{text(caption)}" tabindex="0"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody>"
        "</table></div>\n"
    )


def swatch(colour: str) -> Markup:
    """A patch of a colour of the page."""
    return Markup(f'<span class="swatch" style="background:var(--{colour})"></span>')


def paragraph(words: object, kind: str = "") -> Markup:
    """A paragraph."""
    return Markup(
        f'<p class="{kind}">{text(words, 2000)}</p>\n' if kind else f"<p>{text(words, 2000)}</p>\n"
    )


def preformatted(label: str, words: str, most: int) -> Markup:
    """A text with its line ends, which scrolls on a screen and is whole on paper."""
    return Markup(
        f'<pre tabindex="0" role="region" aria-label="{text(label)}">{private(words, most)}</pre>\n'
    )


def _row(row: Sequence[object], kinds: Sequence[str]) -> str:
    first, *others = row
    cells = "".join(
        f"<td{kind or _short(one)}>{text(one)}</td>"
        for one, kind in zip(others, kinds[1:], strict=True)
    )
    return f'<th scope="row"{kinds[0]}>{text(first)}</th>{cells}'


def _short(value: object) -> str:
    """The class of a cell that stays on one line."""
    return ' class="short"' if len(str(value)) <= _SHORT else ""


def _is_number(value: object) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d,.]+%?|", str(value)))
