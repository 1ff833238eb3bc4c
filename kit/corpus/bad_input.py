"""Bad input: told as an error, or passed over and counted, as the recipe's `on_bad_input` says.

faults = Faults("skip")
faults.report("not_utf8", f"{path}, line 7: byte 3 is not UTF-8; convert the file with iconv")
faults.counts  # {"not_utf8": 1}
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from kit.errors import InputError

_SHOWN = 20  # places of each kind that are kept for the manifest


class BadInput:
    """What was met in the input of one unit."""

    def __init__(self, on_bad_input: Literal["stop", "skip"]) -> None:
        self.counts: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}
        self._stop = on_bad_input == "stop"

    def report(self, kind: str, message: str, number: int = 1) -> None:
        """Count `number` lines, pages or documents of a kind, which the caller then passes over.

        Raises InputError with `message` (what, where, what to do) where the recipe says stop.
        """
        if self._stop:
            raise InputError(f"{message}; or have it passed over: corpus.on_bad_input=skip")
        self.counts[kind] += number
        places = self.places.setdefault(kind, [])
        if len(places) < _SHOWN:
            places.append(message)
