"""Progress of long work: a bar on a terminal, one line a minute in a file or pipe.

    with progress_bar("ja.txt.xz", total, "B") as report:
        report(bytes_so_far)

Both show the amount done, the rate over the last minute, and the time left at that rate.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Protocol

from kit.output import log, quantities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

MINUTE = 60.0  # seconds: between two lines of a log, and the window of a rate


class ProgressCallback(Protocol):
    """Reports the amount done so far, with an optional note."""

    def __call__(self, done: int, note: str = "") -> None:
        """`done` counts from 0; `note` is appended to the figures."""


class ProgressPace:
    """The rate of a count over the last minute, or over the last two points if they are further apart."""

    def __init__(self, done: float, now: float) -> None:
        """`done` at the time `now`, in seconds of any clock."""
        self._points = deque([(now, done)])

    def add(self, done: float, now: float) -> None:
        """Add a point: `done` at the time `now`."""
        self._points.append((now, done))
        while len(self._points) > 2 and self._points[1][0] <= now - MINUTE:
            self._points.popleft()

    @property
    def per_second(self) -> float:
        """The rate; 0 until there are two points."""
        (first, before), (last, done) = self._points[0], self._points[-1]
        return (done - before) / (last - first) if last > first else 0.0


@contextlib.contextmanager
def progress_bar(
    title: str,
    total: int | None,
    noun: str = "B",
    begin: int = 0,
    *,
    out: IO[str] | None = None,
    every: float = MINUTE,
) -> Iterator[ProgressCallback]:
    """Yields a function that reports the amount done so far, counted from 0, in `noun`s (B: bytes).

    `total` is None if it is unknown. In a log, work that ends within `every` seconds leaves no line.
    """
    pace = ProgressPace(begin, time.monotonic())
    if log.is_terminal(out):
        with _bars(out or sys.stderr) as bars:
            task = bars.add_task(title, total=total, completed=begin, figures="")

            def on_bar(done: int, note: str = "") -> None:
                pace.add(done, time.monotonic())
                text = figures(done, total, noun, pace.per_second)
                bars.update(task, completed=done, figures=", ".join(filter(None, (text, note))))

            try:
                yield on_bar
            finally:
                bars.refresh()  # show quick work once as well
                bars.update(task, visible=False)
        return
    last = time.monotonic()  # time of the last line

    def in_log(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        pace.add(done, now)
        if now - last >= every:
            last = now
            text = figures(done, total, noun, pace.per_second)
            line = f"{title}: {', '.join(filter(None, (text, note)))}"
            log.info(line) if out is None else print(line, file=out, flush=True)

    yield in_log


def figures(done: int, total: int | None, noun: str, per_second: float) -> str:
    """Amount done, rate and time left: `3 of 12 units, 1.5 units/min, 6 min left`."""
    if noun == "B":
        amount = quantities.size(done)
        of = "" if total is None else f" of {quantities.size(total)}"
    else:
        amount = f"{done:,}" if total is not None else quantities.count(done, noun)
        of = "" if total is None else f" of {quantities.count(total, noun)}"
    if per_second <= 0:
        return f"{amount}{of}"
    left = ""
    if total is not None and total > done:
        left = f", {quantities.duration((total - done) / per_second)} left"
    return f"{amount}{of}, {quantities.rate(per_second, noun)}{left}"


_open: list[Progress] = []  # all bars of a terminal are one block, below the log lines


@contextlib.contextmanager
def _bars(out: IO[str]) -> Iterator[Progress]:
    if _open:
        yield _open[0]
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    name = TextColumn("{task.description}", markup=False)
    text = TextColumn("{task.fields[figures]}", markup=False)
    columns = (name, BarColumn(bar_width=12), text)
    console = Console(file=getattr(out, "rich_proxied_file", out))
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bars:
        _open.append(bars)
        try:
            yield bars
        finally:
            _open.clear()
