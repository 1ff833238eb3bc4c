"""The logs of a run as `logs` prints them: every attempt of its jobs in order, and new lines.

    view = log_view.LogView(run, ["train"], Selection(rank=0), sys.stdout.buffer.write)
    view.show(lines=20)
    view.follow(alive, say)

Above the lines of each file stands its path, as `tail` does it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.cluster import task_logs
from kit.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kit.cluster.task_logs import Part, Selection, TaskLog
    from kit.store.paths import Run

    Write = Callable[[bytes], object]

_BLOCK = 1 << 20  # bytes


def that_matter(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of a chain, as `status` has it: the running stages, else the one that ended badly, else all."""
    running = [name for name, stage in stages.items() if stage["state"] == "running"]
    fine = ("done", "waiting", "not begun")
    others = [name for name, one in stages.items() if one["log"] and one["state"] not in fine]
    return running or others[:1] or [*stages]


@dataclass
class _Followed:
    """A file that is being followed."""

    read: int = 0  # bytes
    token: str | None = None  # of the start that writes it


@dataclass
class LogView:
    """The logs of some jobs of a run. Raises RunError if the selection takes nothing."""

    run: Run
    names: Sequence[str]
    selection: Selection
    write: Write
    others: Sequence[str] = ()  # jobs to follow as well, from now on
    parts: list[Part] = field(init=False)
    _shown: Path | None = None  # the file whose lines were written last
    _files: dict[Path, _Followed] = field(default_factory=dict)
    _tokens: set[str | None] | None = None  # the starts to follow; None: all

    def __post_init__(self) -> None:
        for name in self.others:
            for log in task_logs.files(self.run.job_logs(name)):
                self._files[log.path] = _Followed(log.path.stat().st_size)
        every = {name: task_logs.parts(self.run, name) for name in self.names}
        for part in (part for parts in every.values() for part in parts):
            seen = self._files.setdefault(part.log.path, _Followed())
            if part.end >= seen.read:
                seen.read, seen.token = part.end, part.token
        self.parts = _selected(every, self.selection)
        if self.selection.attempt is not None:
            self._tokens = {part.token for part in self.parts}

    def show(self, lines: int | None = None) -> None:
        """Write all parts; with `lines`, only the last ones of each file that the last start wrote."""
        if lines is None:
            for part in self.parts:
                self._copy(part.log.path, part.begin, part.end)
            return
        for path, part in {part.log.path: part for part in _of_last_starts(self.parts)}.items():
            floor = 0 if self.selection.attempt is None else part.begin
            self._copy(path, _end_lines(path, floor, part.end, lines), part.end)

    def _copy(self, path: Path, begin: int, end: int) -> None:
        with path.open("rb") as stream:
            stream.seek(begin)
            while block := stream.read(min(_BLOCK, end - stream.tell())):
                self._put(path, block)

    def facts(self) -> list[dict[str, Any]]:
        """The parts as plain values."""
        return [
            {
                "stage": part.log.path.parent.name,
                "path": str(part.log.path),
                "task": part.log.task,
                "rank": part.log.rank,
                "attempt": part.attempt,
                "job": part.token,
                "began": part.clock,
                "begin": part.begin,
                "end": part.end,
            }
            for part in self.parts
        ]

    def follow(self, alive: Callable[[float], bool], pause: float = 1.0) -> None:
        """Write new lines, also of new files, until the jobs are over.

        `alive` says whether a job is still queued or running, given the seconds since the last line.
        """
        last = time.monotonic()
        while True:
            going_on = alive(time.monotonic() - last)  # before the last look: nothing is missed
            began = time.monotonic()
            if self._look(whole=not going_on):
                last = time.monotonic()
            if not going_on or self._over():
                return
            time.sleep(max(pause, 4 * (time.monotonic() - began)))

    def _look(self, *, whole: bool) -> bool:
        """Write new lines; `whole`: also one that has no end yet. Returns whether there was any."""
        found = False
        for name in (*self.names, *self.others):
            for log in task_logs.files(self.run.job_logs(name)):
                if self.selection.takes(log):
                    found |= self._read_on(log, whole=whole)
        return found

    def _read_on(self, log: TaskLog, *, whole: bool) -> bool:
        file = self._files.setdefault(log.path, _Followed())
        try:
            size = log.path.stat().st_size
            if size < file.read:  # from scratch
                file.read = 0
            if size == file.read:
                return False
            with log.path.open("rb") as stream:
                stream.seek(file.read)
                added = stream.read(size - file.read)
        except FileNotFoundError:
            return False
        if not whole:
            added = added[: added.rfind(b"\n") + 1]
        file.read += len(added)
        self._put(log.path, b"".join(self._filtered(log, file, added)))
        return bool(added)

    def _filtered(self, log: TaskLog, file: _Followed, added: bytes) -> list[bytes]:
        """The lines to show: of the selected starts, and of ranks above 0 not the first of a start."""
        lines = []
        for line in added.splitlines(keepends=True):
            first = task_logs.FIRST_LINE.match(line.rstrip(b"\r\n"))
            if first:
                file.token = first[2].decode()
            if self._tokens is not None and file.token not in self._tokens:
                continue
            if not (first and log.rank and self.selection.rank is None):
                lines.append(line)
        return lines

    def _over(self) -> bool:
        """Whether another start has begun after the one that is followed."""
        if self._tokens is None:
            return False
        mine = [self._files[part.log.path].token for part in self.parts]
        return all(token not in self._tokens for token in mine)

    def _put(self, path: Path, text: bytes) -> None:
        if not text:
            return
        if path != self._shown:
            self.write(b"%s==> %s <==\n" % (b"\n" if self._shown else b"", str(path).encode()))
            self._shown = path
        self.write(text)


def _selected(every: dict[str, list[Part]], selection: Selection) -> list[Part]:
    """The selected parts of all jobs. Raises RunError if no job has such a one."""
    chosen: list[Part] = []
    refusals = []
    for name, parts in every.items():
        try:
            chosen += task_logs.select(name, parts, selection) if parts else []
        except RunError as error:
            refusals.append(error)
    if not chosen and refusals:
        raise refusals[-1]
    return chosen


def _of_last_starts(parts: Sequence[Part]) -> list[Part]:
    """The parts of each task's last start; those of its first rank in any case."""
    last = {(part.log.path.parent, part.log.task): part.token for part in parts}
    first = {part.log.path: part.log.rank for part in parts}
    lowest = min(first.values(), default=0)
    return [
        part
        for part in parts
        if part.log.rank == lowest or part.token == last[part.log.path.parent, part.log.task]
    ]


def _end_lines(path: Path, floor: int, end: int, lines: int) -> int:
    """Where the last lines before `end` begin, a megabyte before it at most."""
    floor = max(floor, end - _BLOCK)
    with path.open("rb") as stream:
        stream.seek(floor)
        text = stream.read(end - floor)
    at = len(text) - 1 if text.endswith(b"\n") else len(text)
    for _ in range(lines):
        at = text.rfind(b"\n", 0, at)
        if at < 0:
            return floor
    return floor + at + 1
