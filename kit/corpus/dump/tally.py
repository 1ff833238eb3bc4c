"""Counts of text that an extraction keeps and leaves out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What was kept and left out of the articles of a unit."""

    counts: Counter[str] = field(default_factory=Counter)
    templates: Counter[str] = field(
        default_factory=Counter
    )  # unknown ones in lines of text, by name
    boxes: Counter[str] = field(default_factory=Counter)  # unknown ones on lines of their own
