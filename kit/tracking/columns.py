"""A ledger as columns: hundreds of thousands of steps as arrays, and its few other rows as they are.

    rows = read(attempt)
    rows.steps.loss[-1], rows.events, rows.damage

Only the keys of a step that figures over the whole run need are read; `last_steps` has whole rows. A line
that cannot be read is left out, and `damage` says which.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kit.store.attempt_paths import Attempt
    from kit.tracking.rows import Row, StepRow

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

_STEP = b'{"kind": "step"'  # as the ledger writes it
_ROW_BYTES = 1024  # more than a row of a step has
# Keys that readers of a row rely on, beside its kind.
_NEEDED = {
    "attempt": ("time",),
    "validation": ("time", "step", "validation_loss", "seconds"),
    "checkpoint": ("time", "step", "blocked", "seconds", "bytes"),
    "save_failed": ("time", "reason"),
    "rollback": ("time", "step", "to_step"),
    "end": ("time",),
}


@dataclass(frozen=True)
class StepColumns:
    """Steps in the order of the ledger, as arrays of one length; NaN if a row has no such value."""

    step: NDArray[np.int64]
    time: Floats  # Unix time of its end
    seconds: Floats
    loss: Floats  # nats a token
    rate: Floats  # tokens per second

    def __len__(self) -> int:
        return len(self.step)

    def where(self, mask: Mask) -> StepColumns:
        """The steps of a mask."""
        return StepColumns(*(getattr(self, one.name)[mask] for one in fields(self)))


class LedgerColumns(NamedTuple):
    """The rows of an attempt."""

    steps: StepColumns
    events: Sequence[Row]  # all other rows
    before: Sequence[int]  # the number of steps before each of them
    damage: str | None  # the first line that could not be read, and why


class _Step(msgspec.Struct, gc=False):
    """The keys of a step that become columns."""

    step: int
    time: float = math.nan
    seconds: float = math.nan
    loss: float | None = None
    tokens_per_second: float | None = None


_decoder = msgspec.json.Decoder(_Step)
EMPTY = StepColumns(np.empty(0, np.int64), *(np.empty(0) for _ in range(4)))
NOTHING = LedgerColumns(EMPTY, (), (), None)


def read(attempt: Attempt) -> LedgerColumns:
    """The rows of an attempt; a last line cut off by a crash is skipped. Raises OSError if unreadable."""
    if not attempt.ledger.is_file():
        return NOTHING
    lines = attempt.ledger.read_bytes().split(b"\n")[:-1]
    damage: list[str] = []
    try:
        steps = _steps(lines)
    except msgspec.MsgspecError:
        lines = _readable(lines, damage)
        steps = _steps(lines)
    events: list[Row] = []
    before: list[int] = []
    done = 0
    for line in lines:
        if line.startswith(_STEP):
            done += 1
            continue
        try:
            events.append(_event(line))
            before.append(done)
        except (ValueError, KeyError, TypeError) as error:
            damage.append(_damage(line, error))
    what = f"{attempt.ledger}: {damage[0]}" if damage else None
    return LedgerColumns(_columns(steps), events, before, what)


def _steps(lines: Sequence[bytes]) -> list[_Step]:
    return _decoder.decode_lines(b"\n".join(line for line in lines if line.startswith(_STEP)))


def _readable(lines: Sequence[bytes], damage: list[str]) -> list[bytes]:
    """The lines without damaged steps, which are added to `damage`."""
    readable = []
    for line in lines:
        try:
            if line.startswith(_STEP):
                _decoder.decode(line)
            readable.append(line)
        except msgspec.MsgspecError as error:
            damage.append(_damage(line, error))
    return readable


def _event(line: bytes) -> Row:
    """A row that is no step. Raises ValueError, KeyError or TypeError if it is not one."""
    row: Any = json.loads(line)
    for key in _NEEDED.get(row["kind"], ()):
        if key not in row:
            raise KeyError(key)
    event: Row = row
    return event


def _damage(line: bytes, error: Exception) -> str:
    text = line[:40].decode(errors="replace")
    return f"a row is damaged ({text} ...: {type(error).__name__}: {error}); it is left out"


def _columns(steps: Sequence[_Step]) -> StepColumns:
    number = len(steps)
    return StepColumns(
        np.fromiter((one.step for one in steps), np.int64, number),
        np.fromiter((one.time for one in steps), np.float64, number),
        np.fromiter((one.seconds for one in steps), np.float64, number),
        np.array([one.loss for one in steps], np.float64),
        np.array([one.tokens_per_second for one in steps], np.float64),
    )


def current(attempts: Sequence[tuple[int, LedgerColumns]]) -> list[Mask]:
    """Which steps of each attempt are part of the curve; attempts in order, with the step each began at.

    As `ledger.fold`: a step is replaced once a later attempt, or a rollback, has gone back below it.
    """
    masks: list[Mask] = []
    bound = math.inf
    for start, rows in reversed(attempts):
        mask = rows.steps.step <= bound
        bound = min(bound, start)
        for row, position in zip(rows.events, rows.before, strict=True):
            if row["kind"] == "rollback":
                mask[:position] &= rows.steps.step[:position] <= row["to_step"]
                bound = min(bound, row["to_step"])
        masks.append(mask)
    return masks[::-1]


def joined(parts: Sequence[StepColumns]) -> StepColumns:
    """Steps of several attempts, one after the other."""
    if not parts:
        return EMPTY
    names = [one.name for one in fields(StepColumns)]
    return StepColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def last_steps(attempt: Attempt, number: int) -> list[StepRow]:
    """The last steps of an attempt as whole rows, at most `number`; only the end of the file is read."""
    if number <= 0 or not attempt.ledger.is_file():
        return []
    with attempt.ledger.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        begin = stream.seek(max(0, end - number * _ROW_BYTES))
        lines = stream.read(end - begin).split(b"\n")
    whole = lines[1 if begin else 0 : -1]
    rows: list[StepRow] = []
    for line in [one for one in whole if one.startswith(_STEP)][-number:]:
        with contextlib.suppress(ValueError, KeyError):  # `read` says so
            rows.append(_step_row(line))
    return rows


def _step_row(line: bytes) -> StepRow:
    row: StepRow = json.loads(line)
    assert row["step"] >= 0
    return row
