"""Document filters, applied to the normalised text in a fixed order; each is a key of the recipe.

refused_by(["一行目。", "二行目。"], filters)  # None, or the name of the first filter that refuses it
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kit.config.recipe import Filters, Length

# Hiragana, katakana and their half-width forms, kanji with their extensions, and 々〆〇ー.
_JAPANESE = re.compile(
    "[\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
_WORD = re.compile(r"[^\W_]+")  # letters and digits of any script
_VISIBLE = re.compile(r"\S+")


def refused_by(lines: Sequence[str], filters: Filters) -> str | None:
    """Name the first filter that drops a document of these non-empty lines; None keeps it."""
    for name, refuses in _CHECKS.items():
        if getattr(filters, name) is not None and refuses(lines, getattr(filters, name)):
            return name
    return None


def share(pattern: re.Pattern[str], lines: Sequence[str]) -> float:
    """The share of matching characters among those that are not white space, 0 to 1; 0 for none."""
    text = "".join(lines)
    visible = _characters(_VISIBLE, text)
    return _characters(pattern, text) / visible if visible else 0.0


def repeated_share(lines: Sequence[str]) -> float:
    """The share of lines that repeat an earlier line of the document, 0 to 1."""
    return 1 - len(set(lines)) / len(lines)


def _characters(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def _length(lines: Sequence[str], rule: Length) -> bool:
    characters = sum(map(len, lines))
    return characters < rule.min or (rule.max is not None and characters > rule.max)


_CHECKS: dict[str, Callable[[Sequence[str], Any], bool]] = {
    "length": _length,
    "japanese": lambda lines, rule: share(_JAPANESE, lines) < rule.min_share,
    "symbols": lambda lines, rule: 1 - share(_WORD, lines) > rule.max_share,
    "repeated_lines": lambda lines, rule: repeated_share(lines) > rule.max_share,
}
