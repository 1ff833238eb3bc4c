"""A document as the filters look at it; each view of it is made once, and only if a filter asks."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Codes = np.ndarray[Any, Any]

_SENTENCE = re.compile("[^。．！？!?]+[。．！？!?]?")


class Facts:
    """A document of non-empty lines."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines

    @functools.cached_property
    def text(self) -> str:
        """The lines with a line feed between them."""
        return "\n".join(self.lines)

    @functools.cached_property
    def codes(self) -> Codes:
        """The code points of the text, uint32 [characters]."""
        return np.frombuffer(self.text.encode("utf-32-le"), np.uint32)

    @functools.cached_property
    def sentences(self) -> list[str]:
        """The sentences of all lines: each ends with a full stop, a question or exclamation mark.

        Those of Swallow's filters (swallow-llm/swallow-corpus), which cut within quotations as well.
        """
        return [sentence for line in self.lines for sentence in _SENTENCE.findall(line)]
