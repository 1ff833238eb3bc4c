"""The ledger: what happened, a JSON row a line, a file for each attempt.

Rows of kind `step` and `validation` make the run's curve; others tell its story. An attempt that
started from step s replaces what earlier attempts wrote beyond s, and a row of kind `rollback` what
its own attempt did: `canonical` is the curve with every step once.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Literal, Unpack, overload

from kit.output import log
from kit.store import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kit.store.paths import Attempt, Run
    from kit.store.records import Result
    from kit.tracking.rows import (
        AmendmentFields,
        AmendmentRow,
        AttemptFields,
        AttemptRow,
        CheckpointFields,
        CheckpointRow,
        CurveRow,
        EndRow,
        HealthFields,
        HealthRow,
        RollbackFields,
        RollbackRow,
        Row,
        SaveFailedFields,
        SaveFailedRow,
        StepFields,
        StepRow,
        ValidationFields,
        ValidationRow,
    )

CURVE = ("step", "validation")
_BLOCK = 1 << 18  # bytes read at a time, from the end
# What may differ between two runs of the same recipe: the machine's speed, and the clock.
VOLATILE = frozenset({"time", "seconds", "tokens_per_second", "mfu", "memory_bytes", "attempt"})


class Ledger:
    """The ledger of the attempt that is running; rank 0 alone writes it.

    Where the disk is full, rows wait in memory: training does not depend on them.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt.number
        self._path = attempt.ledger
        self._file = os.open(attempt.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._waiting = b""
        self._lock = threading.Lock()  # a save in the background syncs what the loop adds to
        self._told = False

    @overload
    def add(self, kind: Literal["attempt"], **fields: Unpack[AttemptFields]) -> AttemptRow: ...
    @overload
    def add(
        self, kind: Literal["amendment"], **fields: Unpack[AmendmentFields]
    ) -> AmendmentRow: ...
    @overload
    def add(self, kind: Literal["step"], **fields: Unpack[StepFields]) -> StepRow: ...
    @overload
    def add(
        self, kind: Literal["validation"], **fields: Unpack[ValidationFields]
    ) -> ValidationRow: ...
    @overload
    def add(
        self, kind: Literal["checkpoint"], **fields: Unpack[CheckpointFields]
    ) -> CheckpointRow: ...
    @overload
    def add(
        self, kind: Literal["save_failed"], **fields: Unpack[SaveFailedFields]
    ) -> SaveFailedRow: ...
    @overload
    def add(self, kind: Literal["health"], **fields: Unpack[HealthFields]) -> HealthRow: ...
    @overload
    def add(self, kind: Literal["rollback"], **fields: Unpack[RollbackFields]) -> RollbackRow: ...
    @overload
    def add(self, kind: Literal["end"], **fields: Unpack[Result]) -> EndRow: ...
    def add(self, kind: str, **fields: Any) -> Any:
        """Append a row and hand it to the operating system, as soon as that takes it.

        What is not finite is null in it.
        """
        finite = {name: _finite(value) for name, value in fields.items()}
        row = {"kind": kind, "attempt": self._attempt, "time": time.time(), **finite}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            self._write(line)
        except OSError as error:
            if not self._told:
                log.warning(f"{self._path}: {error.strerror}; rows wait in memory")
            self._told = True
        return row

    def sync(self) -> None:
        """Make all rows durable: before a checkpoint that stands on them. Raises OSError."""
        self._write(b"")
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and close. Raises OSError."""
        try:
            self.sync()
        finally:
            os.close(self._file)

    def _write(self, line: bytes) -> None:
        with self._lock:
            self._waiting += line
            # By the byte: a full disk may take a part of a row, and its rest follows later.
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
            self._told = False


def attempts(run: Run) -> list[Attempt]:
    """The attempts of a run that began, in order."""
    return [attempt for attempt in run.claimed_attempts() if attempt.start.is_file()]


def rows(attempt: Attempt, after: int = -1) -> Iterator[Row]:
    """The rows of one attempt; a last line cut by a crash is passed over.

    With `after`, those from the last row of a step up to it on: what stood before and went beyond it
    was gone back on.
    """
    if not attempt.ledger.is_file():
        return
    with attempt.ledger.open("rb") as lines:
        lines.seek(_last_up_to(lines, after))
        for line in lines:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _last_up_to(stream: IO[bytes], step: int) -> int:
    """Where the last row of kind `step` up to that step begins; 0 where there is none.

    Read from the end: of a million rows a few are meant.
    """
    place = stream.seek(0, os.SEEK_END)
    rest = b""
    while step >= 0 and place > 0:
        size = min(_BLOCK, place)
        place = stream.seek(place - size)
        held = stream.read(size) + rest
        first = (held.find(b"\n") + 1 or len(held)) if place else 0
        at = len(held)
        for line in reversed(held[first:].splitlines(keepends=True)):
            at -= len(line)
            is_step = line.startswith(b'{"kind": "step"') and line.endswith(b"\n")
            if is_step and json.loads(line)["step"] <= step:
                return place + at
        rest = held[:first]
    return 0


def canonical(run: Run, after: int = -1) -> list[CurveRow]:
    """The curve of a run: each step and validation once, in order; only rows beyond step `after`.

    Attempts whose rows cannot be meant are not read: at the end of a long run that is nearly all.
    """
    needed: list[tuple[Attempt, int]] = []
    for attempt in reversed(attempts(run)):
        start = records.start(attempt)["from_step"]
        needed.append((attempt, start))
        if start <= after:
            break
    curve = fold((start, rows(attempt, after)) for attempt, start in reversed(needed))
    return [row for row in curve if row["step"] > after]


def fold(attempts: Iterable[tuple[int, Iterable[Row]]]) -> list[CurveRow]:
    """The curve from the rows of attempts in their order, each with the step that it started from."""
    curve: list[CurveRow] = []
    for start, its in attempts:
        _cut(curve, start)
        for row in its:
            if row["kind"] == "rollback":
                _cut(curve, row["to_step"])
            elif row["kind"] == "step" or row["kind"] == "validation":
                # A checkpoint made when its validation was still due, resumed from twice: the
                # validation stands at the step of the checkpoint, not beyond, and comes again.
                if curve and _place(curve[-1]) == _place(row):
                    curve.pop()
                curve.append(row)
    return curve


def _place(row: CurveRow) -> tuple[str, int]:
    return row["kind"], row["step"]


def _cut(curve: list[CurveRow], step: int) -> None:
    """Remove the rows beyond a step."""
    while curve and curve[-1]["step"] > step:
        curve.pop()


def comparable(curve: Sequence[Row]) -> list[dict[str, Any]]:
    """The curve without what differs from machine to machine."""
    return [{key: value for key, value in row.items() if key not in VOLATILE} for row in curve]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
