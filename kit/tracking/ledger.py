"""The ledger: what happened, a JSON row a line, a file for each attempt.

Rows of kind `step` and `validation` make the run's curve; others tell its story. An attempt that
started from step s replaces what earlier attempts wrote beyond s: `canonical` is the curve with
every step once.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from kit.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.workspace import Attempt, Run

Row = dict[str, Any]
CURVE = ("step", "validation")
# What may differ between two runs of the same recipe: the machine's speed, and the clock.
VOLATILE = frozenset({"time", "seconds", "tokens_per_second", "attempt"})


class Ledger:
    """The ledger of the attempt that is running; rank 0 alone writes it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt.number
        self._file = attempt.ledger.open("a", encoding="utf-8")

    def add(self, kind: str, **fields: Any) -> Row:
        """Append a row and hand it to the operating system."""
        row = {"kind": kind, "attempt": self._attempt, "time": time.time(), **fields}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        return row

    def sync(self) -> None:
        """Make all rows durable: before a checkpoint that stands on them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._file.close()


def attempts(run: Run) -> list[Attempt]:
    """The attempts of a run that began, in order."""
    return [attempt for attempt in run.claimed_attempts() if attempt.start.is_file()]


def rows(attempt: Attempt) -> Iterator[Row]:
    """The rows of one attempt; a last line cut by a crash is passed over."""
    if not attempt.ledger.is_file():
        return
    with attempt.ledger.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def canonical(run: Run) -> list[Row]:
    """The curve of a run: each step and validation once, in order."""
    curve: list[Row] = []
    for attempt in attempts(run):
        start = read_json(attempt.start)["from_step"]
        while curve and curve[-1]["step"] > start:
            curve.pop()
        curve += [row for row in rows(attempt) if row["kind"] in CURVE]
    return curve


def comparable(curve: Sequence[Row]) -> list[Row]:
    """The curve without what differs from machine to machine."""
    return [{key: row[key] for key in row if key not in VOLATILE} for row in curve]
