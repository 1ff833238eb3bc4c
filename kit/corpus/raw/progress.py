"""How far a long read or transfer is: a bar with rate and time left, or a line a minute in a log.

with shown("ja.txt.xz", total) as at:
    at(bytes_so_far)
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EVERY = 60.0  # seconds from one line of a log to the next


@contextlib.contextmanager
def shown(
    what: str,
    total: int | None,
    begin: int = 0,
    *,
    out: IO[str] | None = None,
    every: float = _EVERY,
) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told the bytes done so far, counted from `begin`.

    A total of None is one that is not known. What is quicker than `every` seconds leaves no line.
    """
    out = out or sys.stderr
    if out.isatty():
        with _bar(what, total, begin, out) as at:
            yield at
    else:
        yield _log(what, total, begin, out, every)


@contextlib.contextmanager
def _bar(what: str, total: int | None, begin: int, out: IO[str]) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    name = TextColumn("{task.description}", markup=False)
    figures = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(name, BarColumn(), *figures, console=Console(file=out)) as progress:
        task = progress.add_task(what, total=total, completed=begin)
        yield lambda done: progress.update(task, completed=done)


def _log(
    what: str, total: int | None, begin: int, out: IO[str], every: float
) -> Callable[[int], None]:
    began = said = time.monotonic()

    def at(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= every:
            said = now
            print(_line(what, done, total, done - begin, now - began), file=out, flush=True)

    return at


def _line(what: str, done: int, total: int | None, new: int, seconds: float) -> str:
    rate = new / max(seconds, 1e-9)
    of = "" if total is None else f" of {total / 1e6:.1f}"
    left = "" if total is None or not new else f", {_duration((total - done) / rate)} left"
    return f"{what}: {done / 1e6:.1f}{of} MB, {rate / 1e6:.1f} MB/s{left}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(seconds, 0):.0f} s"
