"""The local supervisor's view of its jobs: finished units, and the progress of training.

Jobs log to their own files. Units are counted by their manifests, steps come from the ledger, and
other lines of rank 0 are passed on from its log.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from kit.output import quantities
from kit.output.progress import ProgressPace, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kit.output.progress import ProgressCallback
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.units import Tally
    from kit.tracking.rows import StepRow

_PAUSE = 10.0  # seconds between two lines on training
_SHARE = 20  # counting the units of a stage takes a twentieth of the time at most
_TAIL = 4096  # bytes at the end of a ledger or log: some rows
_LINE = re.compile(rb"\d{4}-\d\d-\d\d [\d:]{8} (.*)\n")
# Steps are shown from the ledger, and the supervisor itself tells how the job ended.
_EVENT = re.compile(rb"\S+ \S+ attempt \d+ rank 0: (?!step |train: )(.*)\n")


def start_line(name: str, tasks: int) -> str:
    """The line for a job that starts."""
    return f"{name}: started, {quantities.count(tasks, 'task')}"


def done_line(name: str, seconds: float) -> str:
    """The line for a job that is done."""
    return f"{name}: done in {quantities.duration(seconds)}"


@contextmanager
def units(run: Run, name: str, tally: Tally | None) -> Iterator[Callable[[], None]]:
    """Show how many units of a job are done, and its last log line; yields a function to call often."""
    if tally is None:
        yield lambda: None
        return
    due, begun = 0.0, time.time()
    with progress_bar(name, tally.total, "unit", tally.done()) as update:

        def look() -> None:
            nonlocal due
            if (began := time.monotonic()) >= due:
                update(tally.done(), _last_line(run.job_logs(name), name, begun))
                now = time.monotonic()
                due = now + max(1.0, _SHARE * (now - began))

        yield look


def _last_line(logs: Path, name: str, since: float) -> str:
    """The last line of the tasks' logs without its time; empty if it is older than `since`."""
    ages = {log: log.stat().st_mtime for log in logs.glob("*.out")}
    newest = max(ages, key=lambda log: ages[log], default=None)
    if newest is None or ages[newest] < since:
        return ""
    lines = _tail(newest).splitlines(keepends=True)
    line = next((line for line in reversed(lines) if line.endswith(b"\n")), b"")
    match = _LINE.fullmatch(line)
    return match[1].decode(errors="replace").removeprefix(f"{name}: ") if match else ""


class TrainingView:
    """One attempt as rank 0 logs it: a bar for its steps, a line for each other event."""

    def __init__(self, run: Run, log: Path, read: int, say: Callable[[str], None]) -> None:
        """`log`: rank 0's, of which the first `read` bytes are from earlier attempts."""
        self._run, self._log, self._read, self._say = run, log, read, say
        self._before = _key(last_step(run))
        self._stack = ExitStack()
        self._update: ProgressCallback | None = None
        self._pace = ProgressPace(0, 0.0)  # of steps

    def __enter__(self) -> TrainingView:
        return self

    def __exit__(self, *exception: object) -> None:
        self.look(last_step(self._run))
        self._stack.close()

    def look(self, row: StepRow | None) -> None:
        """Show new steps and events; `row` is from `last_step`."""
        if row and _key(row) != self._before:
            self._before = _key(row)
            self._show(row)
        self._pass_on()

    def _show(self, row: StepRow) -> None:
        loss = quantities.loss(row["loss"])
        now, tokens = time.monotonic(), row["tokens_per_second"] * row["seconds"]
        if self._update is None:
            self._pace = ProgressPace(row["step"], now)
            steps = _steps(self._run.attempt(row["attempt"]))
            bar = progress_bar("train", steps, "step", row["step"], every=_PAUSE)
            self._update = self._stack.enter_context(bar)
        self._pace.add(row["step"], now)
        rate = self._pace.per_second * tokens
        self._update(row["step"], f"loss {loss}" + (f", {rate:,.0f} tokens/s" if rate else ""))

    def _pass_on(self) -> None:
        if not self._log.is_file():  # the rank has not begun
            return
        with self._log.open("rb") as stream:
            stream.seek(self._read)
            text = stream.read()
        text = text[: text.rfind(b"\n") + 1]
        self._read += len(text)
        for line in text.splitlines(keepends=True):
            if match := _EVENT.fullmatch(line):
                self._say(f"train: {match[1].decode(errors='replace')}")


def last_step(run: Run) -> StepRow | None:
    """The last step's row in the ledger of the newest attempt; None before there is one."""
    ledgers = [a.ledger for a in run.claimed_attempts() if a.ledger.is_file()]
    if not ledgers:
        return None
    lines = _tail(ledgers[-1]).splitlines(keepends=True)
    whole = (line for line in reversed(lines) if line.startswith(b"{") and line.endswith(b"}\n"))
    rows = (json.loads(line) for line in whole)
    return next((row for row in rows if row["kind"] == "step"), None)


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL))
        return stream.read()


def _key(row: StepRow | None) -> tuple[int, int] | None:
    return (row["attempt"], row["step"]) if row else None


def _steps(attempt: Attempt) -> int | None:
    """The number of steps of the run, from the first row of an attempt's ledger."""
    with attempt.ledger.open("rb") as stream:
        line = stream.readline()
    steps: int | None = json.loads(line).get("steps") if line.endswith(b"}\n") else None
    return steps
