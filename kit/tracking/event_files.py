"""The event files of a run: their names, the rows that they lack, and the command that shows them."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.tracking import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.tracking.rows import Row

PORT = 6006  # TensorBoard's own default
SAMPLES = "scalars=100000"  # of a curve: of the default 1,000 a spike of one step is seldom one
_PROGRAM = ".venv/bin/tensorboard"  # as the Makefile installs it, in the checkout


@dataclass(frozen=True)
class Lack:
    """An attempt of whose rows only the first are drawn."""

    attempt: Attempt
    rows: Sequence[Row]
    drawn: int


def command(run: Run) -> list[str]:
    """The command that serves a run, all its points, on a port that is free now."""
    own = Path(sys.executable).with_name("tensorboard")
    return [
        _PROGRAM if Path(_PROGRAM).is_file() else str(own),
        *("--logdir", str(run.tensorboard)),
        *("--samples_per_plugin", SAMPLES),
        *("--port", str(_free_port())),
    ]


def name(attempt: Attempt) -> str:
    """The name of an attempt's file."""
    return f"events.out.tfevents.{attempt.number:010d}.attempt-{attempt.number:04d}"


def of_run(run: Run) -> list[Path]:
    """The files of a run, in no order."""
    return [*run.tensorboard.glob("events.out.tfevents.*.attempt-*")]


def undrawn(run: Run, attempt: Attempt, files: Sequence[Path]) -> Iterator[Lack]:
    """The rows of earlier attempts that no file has: those of an attempt killed before it drew them."""
    newest = int(files[-1].name.rpartition("-")[2]) if files else 0
    for earlier in ledger.attempts(run):
        if not newest <= earlier.number < attempt.number:
            continue
        rows, drawn = _readable(earlier), 0
        if earlier.number == newest and (last := _last_drawn(files[-1])):
            drawn = max((n for n, row in enumerate(rows, 1) if row["time"] == last), default=0)
        if drawn < len(rows):
            yield Lack(earlier, rows, drawn)


def _readable(attempt: Attempt) -> list[Row]:
    """The rows of an attempt that are not damaged."""
    rows: list[Row] = []
    if attempt.ledger.is_file():
        for line in attempt.ledger.read_bytes().split(b"\n")[:-1]:
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def _last_drawn(path: Path) -> float | None:
    """The time of the last row in an event file, which may be cut off; None if it has none."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    last = None
    for last in RawEventFileLoader(str(path)).Load():  # noqa: B007  all but the last are skipped
        pass
    event = Event.FromString(last) if last is not None else None
    return event.wall_time if event is not None and event.HasField("summary") else None


def _free_port() -> int:
    """TensorBoard's default port if it is free on this machine, or else another one."""
    for port in (PORT, 0):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(one.getsockname()[1])
    return PORT
