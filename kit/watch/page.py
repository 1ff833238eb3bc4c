"""The pages of the live view, the effect of each key, and the contents to show.

page = turned(page, "a", room=22)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Name = Literal["main", "attempts", "log", "help"]

_PAGES: Mapping[str, Name] = {"a": "attempts", "l": "log", "?": "help"}
_FAR = 1 << 30  # lines: as far as a page goes


@dataclass(frozen=True)
class Page:
    """A page, and the part of it that is shown."""

    name: Name = "main"
    scroll: int = 0  # lines from the begin; of the log, from its end
    recent: bool = False  # the plot of the last steps


@dataclass(frozen=True)
class Shown:
    """The contents of the pages."""

    title: str  # of the run
    facts: dict[str, Any] | None = None  # None: nothing was read yet
    log: str | None = None  # path of the log that is shown
    tail: Sequence[str] = ()  # its last lines
    problem: str | None = None  # why the last look failed


def turned(page: Page, key: str, room: int) -> Page:
    """The page after a key; `room` is the number of lines of a screenful."""
    moves = {
        "up": -1, "k": -1, "down": 1, "j": 1, "page up": -room, "b": -room, "page down": room,
        " ": room, "home": -_FAR, "g": -_FAR, "end": _FAR, "G": _FAR,
    }  # fmt: skip
    if key in moves:  # the log is counted from its end
        move = -moves[key] if page.name == "log" else moves[key]
        return replace(page, scroll=max(0, page.scroll + move))
    if key == "t" and page.name == "main":
        return replace(page, recent=not page.recent)
    name = _PAGES.get(key, "main")
    return Page("main" if page.name == name else name, 0, page.recent)
