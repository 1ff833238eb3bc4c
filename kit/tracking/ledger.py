"""The ledger: the events of a run as JSON lines, in one file per attempt.

Rows of kind `step` and `validation` form the run's curve; others record its history. An attempt that
started from step s replaces the rows that earlier attempts wrote beyond s, and a row of kind
`rollback` those of its own attempt: `canonical` is the curve with every step once.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Literal, Unpack, overload

from kit.errors import ConfigError
from kit.output import log
from kit.store import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pandas import DataFrame

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.records import Result
    from kit.tracking.rows import (
        AmendmentFields,
        AmendmentRow,
        AttemptFields,
        AttemptRow,
        CheckpointFields,
        CheckpointRow,
        CurveRow,
        DevicesFields,
        DevicesRow,
        EndRow,
        HealthFields,
        HealthRow,
        RollbackFields,
        RollbackRow,
        Row,
        SampleFields,
        SampleRow,
        SaveFailedFields,
        SaveFailedRow,
        StepFields,
        StepRow,
        ValidationFields,
        ValidationRow,
    )

CURVE = ("step", "validation")
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # made once, not for each row
_BLOCK = 1 << 18  # bytes read at a time, from the end
# Keys that may differ between two runs of the same recipe: they depend on the machine's speed and clock.
VOLATILE = frozenset(
    {
        "time", "seconds", "tokens_per_second", "mfu", "memory_bytes", "attempt", "data_seconds",
        "slowest_rank", "slowest_behind", "reserved_bytes",
    }
)  # fmt: skip


class Ledger:
    """The ledger of the running attempt; only rank 0 writes it.

    If the disk is full, rows wait in memory: training does not depend on them.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt.number
        self._path = attempt.ledger
        self._file = os.open(attempt.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._waiting = b""
        self._lock = threading.Lock()  # a save in the background syncs while the loop adds rows
        self._warned = False

    @overload
    def add(self, kind: Literal["attempt"], **fields: Unpack[AttemptFields]) -> AttemptRow: ...
    @overload
    def add(
        self, kind: Literal["amendment"], **fields: Unpack[AmendmentFields]
    ) -> AmendmentRow: ...
    @overload
    def add(self, kind: Literal["step"], **fields: Unpack[StepFields]) -> StepRow: ...
    @overload
    def add(self, kind: Literal["devices"], **fields: Unpack[DevicesFields]) -> DevicesRow: ...
    @overload
    def add(
        self, kind: Literal["validation"], **fields: Unpack[ValidationFields]
    ) -> ValidationRow: ...
    @overload
    def add(self, kind: Literal["sample"], **fields: Unpack[SampleFields]) -> SampleRow: ...
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
        """Append a row and write it to the file as soon as possible; returns it.

        Values that are not finite become null.
        """
        finite = {name: _finite(value) for name, value in fields.items()}
        row = {"kind": kind, "attempt": self._attempt, "time": time.time(), **finite}
        line = _encoder.encode(row).encode() + b"\n"
        try:
            self._write(line)
        except OSError as error:
            if not self._warned:
                log.warning(
                    f"{self._path}: {error.strerror}; rows are kept in memory until it works"
                )
            self._warned = True
        return row

    def sync(self) -> None:
        """Make all rows durable, before a checkpoint that depends on them. Raises OSError."""
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
            # A full disk may accept part of a row; the rest is written later.
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
            self._warned = False


def attempts(run: Run) -> list[Attempt]:
    """The attempts of a run that began, in order."""
    return [attempt for attempt in run.claimed_attempts() if attempt.start.is_file()]


def rows(attempt: Attempt, after: int = -1) -> Iterator[Row]:
    """The rows of one attempt; a last line cut off by a crash is skipped.

    With `after`, only rows from the last one of a step up to `after`: earlier rows of later steps were
    undone by a rollback.
    """
    if not attempt.ledger.is_file():
        return
    with attempt.ledger.open("rb") as lines:
        lines.seek(_offset_of_last_step(lines, after))
        for line in lines:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _offset_of_last_step(stream: IO[bytes], step: int) -> int:
    """The offset of the last row of kind `step` up to that step; 0 if there is none.

    Reads from the end: of a million rows only a few are needed.
    """
    start = stream.seek(0, os.SEEK_END)
    rest = b""
    while step >= 0 and start > 0:
        size = min(_BLOCK, start)
        start = stream.seek(start - size)
        block = stream.read(size) + rest
        first = (block.find(b"\n") + 1 or len(block)) if start else 0
        offset = len(block)
        for line in reversed(block[first:].splitlines(keepends=True)):
            offset -= len(line)
            is_step = line.startswith(b'{"kind": "step"') and line.endswith(b"\n")
            if is_step and json.loads(line)["step"] <= step:
                return start + offset
        rest = block[:first]
    return 0


def canonical(run: Run, after: int = -1) -> list[CurveRow]:
    """The curve of a run: each step and validation once, in order; only rows beyond step `after`.

    Attempts without such rows are not read: near the end of a long run, almost all of them.
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
    """The curve from the rows of attempts in order, each with the step from which it started."""
    curve: list[CurveRow] = []
    for start, attempt_rows in attempts:
        _truncate(curve, start)
        for row in attempt_rows:
            if row["kind"] == "rollback":
                _truncate(curve, row["to_step"])
            elif row["kind"] == "step" or row["kind"] == "validation":
                # Two attempts may resume from a checkpoint saved before its validation: the row is at
                # the checkpoint's step, so it is not truncated, and would come twice.
                if curve and _key(curve[-1]) == _key(row):
                    curve.pop()
                curve.append(row)
    return curve


def frame(run: Run, kind: Literal["step", "validation"] = "step") -> DataFrame:
    """The curve as a pandas DataFrame: a row for each step, or for each validation, by the step's number.

    Columns are the keys of the ledger. Raises ConfigError if pandas is not installed.
    """
    if kind not in CURVE:
        raise ConfigError(f"kind={kind!r}: give {' or '.join(map(repr, CURVE))}")
    try:
        import pandas
    except ImportError:
        raise ConfigError(
            "a DataFrame of the ledger needs pandas; run pip install pandas"
        ) from None
    rows = [row for row in canonical(run) if row["kind"] == kind]
    steps = pandas.Index([row["step"] for row in rows], name="step", dtype="int64")
    return pandas.DataFrame(rows, index=steps).drop(columns="step", errors="ignore")


def samples(run: Run) -> list[SampleRow]:
    """The samples of a run: one for each validation and prompt, in order."""
    found: dict[tuple[int, str], SampleRow] = {}
    for attempt in attempts(run):
        start = records.start(attempt)["from_step"]
        found = _up_to(found, start)
        for row in rows(attempt):
            if row["kind"] == "rollback":
                found = _up_to(found, row["to_step"])
            elif row["kind"] == "sample":
                found[row["step"], row["prompt"]] = row
    return [*found.values()]


def _up_to(found: dict[tuple[int, str], SampleRow], step: int) -> dict[tuple[int, str], SampleRow]:
    return {key: row for key, row in found.items() if key[0] <= step}


def _key(row: CurveRow) -> tuple[str, int]:
    return row["kind"], row["step"]


def _truncate(curve: list[CurveRow], step: int) -> None:
    """Remove the rows beyond a step."""
    while curve and curve[-1]["step"] > step:
        curve.pop()


def comparable(curve: Sequence[Row]) -> list[dict[str, Any]]:
    """The curve without the keys that differ between machines."""
    return [{key: value for key, value in row.items() if key not in VOLATILE} for row in curve]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
