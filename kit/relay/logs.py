"""The logs of a job's tasks, named by submitit, and their last lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.cluster import task_logs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TAIL = 1 << 16  # bytes at the end of a log
_WIDTH = 500  # characters of a line
_TRACEBACK = b"Traceback (most recent call last)"
_RANK = re.compile(r"\[rank\d+\]: ?")  # torch puts it before each line of a rank's traceback


def of_task(folder: Path, task: str) -> Path | None:
    """The log of a task (ID or ARRAY_INDEX on Slurm, NAME-TASK on this machine); None if there is none yet.

    Of several ranks, the log of the first one with a traceback, else of the first.
    """
    ranks = sorted(folder.glob(f"{task}_*_log.out"), key=lambda path: (len(path.name), path.name))
    if len(ranks) < 2:
        return ranks[0] if ranks else None
    return next((path for path in ranks if _TRACEBACK in _end(path)), ranks[0])


def newest(folder: Path, job: str | None = None, since: float = 0.0) -> Path | None:
    """The log written to last, of one job or of all; None if that was before `since` (Unix time)."""
    pattern = "*_log.out" if job is None else f"{job}_*_log.out"
    times = {path: path.stat().st_mtime for path in folder.glob(pattern)}
    last = max(times, key=times.__getitem__, default=None)
    return last if last is not None and times[last] >= since else None


def last_lines(log: Path, count: int = 5) -> list[str]:
    """The last non-empty lines of a log's last start, after the error of a traceback further above.

    Below a rank's traceback, srun and the exit trap have lines of their own.
    """
    lines = [line.rstrip()[:_WIDTH] for line in _text(log).splitlines() if line.strip()]
    error = _error(lines)
    above = [lines[error]] if error is not None and error < len(lines) - count else []
    return above + lines[-count:]


def _error(lines: Sequence[str]) -> int | None:
    """The line with the error of the last traceback; None if there is none."""
    own = [_RANK.sub("", line) for line in lines]
    heads = [number for number, line in enumerate(own) if line == f"{_TRACEBACK.decode()}:"]
    rest = range(heads[-1] + 1, len(own)) if heads else ()
    return next((number for number in rest if not own[number].startswith(" ")), None)


def last_named(log: Path, names: Sequence[str]) -> str | None:
    """The one of `names` that occurs last in a log; None if none does."""
    text = _text(log)
    places = {name: text.rfind(name) for name in names}
    last = max(names, key=lambda name: places[name], default=None)
    return last if last is not None and places[last] >= 0 else None


def _text(log: Path) -> str:
    return _end(log).decode("utf-8", errors="replace")


def _end(log: Path) -> bytes:
    """The end of a log, of its last start alone; empty if the file is gone."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL))
            end = stream.read()
    except FileNotFoundError:
        return b""
    starts = [match.start() for match in task_logs.FIRST_LINE.finditer(end)]
    return end[starts[-1] :] if starts else end
