"""Bad input: raised as an error, or skipped and counted, as the recipe's `on_bad_input` says.

bad_input = BadInput("skip")
bad_input.report("not_utf8", f"{path}, line 7: byte 3 is not UTF-8; convert the file with iconv")
bad_input.counts  # {"not_utf8": 1}
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from kit.errors import InputError

_EXAMPLES = 20  # messages of each kind to keep for the manifest


class BadInput:
    """The bad input of one unit, by kind."""

    def __init__(self, on_bad_input: Literal["stop", "skip"]) -> None:
        self.counts: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}
        self._stop = on_bad_input == "stop"

    def report(self, kind: str, message: str, number: int = 1) -> None:
        """Count `number` lines, pages or documents of a kind, for the caller to skip.

        Raises InputError with `message` (problem, place, remedy) if the recipe says stop.
        """
        if self._stop:
            raise InputError(f"{message}; or skip such input with corpus.on_bad_input=skip")
        self.counts[kind] += number
        messages = self.places.setdefault(kind, [])
        if len(messages) < _EXAMPLES:
            messages.append(message)
