"""Tables and code of a card as Markdown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kit.tracking.summaries import fenced

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kit.release.card.facts import CardFacts

__all__ = ["cell", "day", "fenced", "has", "page", "pairs", "section", "table"]


def cell(value: object) -> str:
    """A value in a cell of a table: on one line, and with no end of the cell in it."""
    return " ".join(str(value).replace("|", "\\|").split())


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers: int = 0) -> str:
    """A table; the last `numbers` columns are aligned right. Empty without rows."""
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    if not lines:
        return ""
    marks = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join([f"| {' | '.join(head)} |", f"| {' | '.join(marks)} |", *lines])


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values, without the values that are None."""
    return table(("", ""), [(name, value) for name, value in rows if value is not None])


def section(title: str, *parts: str | None) -> str:
    """A section of the parts that are not empty; empty if all are."""
    full = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *full]) if full else ""


def page(*sections: str) -> str:
    """A page of the sections that are not empty."""
    return "\n\n".join(part for part in sections if part) + "\n"


def day(seconds: float) -> str:
    """The day of a Unix time, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def has(facts: CardFacts, name: str) -> bool:
    """Whether a release has a file of that name, or a folder with files."""
    return any(file == name or file.startswith(f"{name}/") for file in facts.files)
