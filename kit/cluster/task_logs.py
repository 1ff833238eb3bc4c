"""The logs of a job's tasks: the files of its ranks, and the part that each start wrote, in order.

    for part in parts(run, "train"):
        part.log.path, part.begin, part.attempt

submitit names a file by job, task and rank: 17_0_log.out, 17_3_0_log.out for task 3 of an array,
train-0_1_log.out for rank 1 on this machine. A requeued task appends to the files of its earlier starts;
the next submission to Slurm makes new ones. The first line of each start names its token.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.errors import RunError
from kit.store.files import read_json
from kit.store.job_tokens import job_of, restarts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from kit.store.paths import Run

TRAIN = "train"
_FILE = re.compile(r"(?:(?P<job>\d+)(?:_(?P<index>\d+))?|\w+-(?P<task>\d+))_(?P<rank>\d+)_log\.out")
# The line of kit/cluster/entry.py: clock, stage, token.
FIRST_LINE = re.compile(
    rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \w+: job (\S+\.\d+) on \S+$", re.MULTILINE
)


@dataclass(frozen=True)
class TaskLog:
    """The log of one rank of a task."""

    path: Path
    task: int  # as in the name of the file: on Slurm the index in the array
    rank: int


@dataclass(frozen=True)
class Selection:
    """The parts to show; None: all."""

    task: int | None = None
    rank: int | None = None
    attempt: int | None = None

    def takes(self, log: TaskLog) -> bool:
        """Whether the file is one of those selected."""
        return self.task in (None, log.task) and self.rank in (None, log.rank)


@dataclass(frozen=True)
class Part:
    """What one start of a task wrote into the log of one rank."""

    log: TaskLog
    begin: int  # bytes of the file, [begin, end)
    end: int
    lines: int
    clock: str  # of its first line
    token: str | None  # None: the start died before its first line
    attempt: int | None  # None: training that died before it claimed an attempt

    @property
    def says_something(self) -> bool:
        """Whether it has more than its first line, as on ranks that have nothing to report."""
        return self.lines > 1 or self.token is None

    def number(self, option: str) -> int | None:
        """The number of its task, rank or attempt."""
        return {"task": self.log.task, "rank": self.log.rank, "attempt": self.attempt}[option]


def log_of(path: Path) -> TaskLog | None:
    """The log by its name; None for another file."""
    match = _FILE.fullmatch(path.name)
    if match is None:
        return None
    return TaskLog(path, int(match["task"] or match["index"] or 0), int(match["rank"]))


def files(folder: Path) -> list[TaskLog]:
    """The logs in a job's folder, by task and rank."""
    found = [log for path in folder.glob("*_log.out") if (log := log_of(path))]
    return sorted(found, key=lambda log: (log.task, log.rank, log.path.name))


def parts(run: Run, name: str) -> list[Part]:
    """Everything the tasks of a job wrote: by submission, task, start and rank.

    Attempts of the training have the numbers of their folders; of other jobs, each task counts its own.
    """
    found = [part for log in files(run.job_logs(name)) for part in _of_file(log)]
    order = _order(found)
    found.sort(key=order)
    return [*_numbered(found, _attempts(run) if name == TRAIN else None)]


def _of_file(log: TaskLog) -> Iterator[Part]:
    content = log.path.read_bytes()
    if not content:
        return
    heads = [
        (head.start(), head[1].decode(), head[2].decode()) for head in FIRST_LINE.finditer(content)
    ]
    if not heads:
        changed = time.localtime(log.path.stat().st_mtime)
        heads = [(0, time.strftime("%Y-%m-%d %H:%M:%S", changed), "")]
    begins = [0, *(begin for begin, _, _ in heads[1:]), len(content)]
    for (_, clock, token), begin, end in zip(heads, begins, begins[1:], strict=False):
        lines = content.count(b"\n", begin, end)
        yield Part(log, begin, end, lines, clock, token or None, None)


def _order(found: Iterable[Part]) -> Callable[[Part], tuple[str, int, int, int]]:
    """The key to sort by: submission by its first line, task, restart, rank."""
    first: dict[str, str] = {}
    for part in sorted(found, key=lambda part: part.clock):
        first.setdefault(_submission(part), part.clock)
    return lambda part: (
        first[_submission(part)],
        part.log.task,
        restarts_of(part.token) if part.token else 0,
        part.log.rank,
    )


def _submission(part: Part) -> str:
    """The job's id on Slurm, the supervisor's on this machine."""
    job = job_of(part.token) if part.token else part.log.path.name
    return job.rsplit("-", 1)[-1].split("_")[0]


def _attempts(run: Run) -> dict[str, int]:
    """The numbers of the training's attempts, by token."""
    claimed = [attempt for attempt in run.claimed_attempts() if attempt.start.is_file()]
    return {read_json(attempt.start)["job"]: attempt.number for attempt in claimed}


def _numbered(found: Sequence[Part], attempts: dict[str, int] | None) -> Iterator[Part]:
    """The parts with their attempts; None: each start of a task is the next one."""
    numbers: dict[tuple[int, str | None], int] = {}
    starts: Counter[int] = Counter()
    for part in found:
        key = (part.log.task, part.token)
        if attempts is not None:
            number = attempts.get(part.token or "")
        else:
            if key not in numbers:
                starts[part.log.task] += 1
            number = numbers.setdefault(key, starts[part.log.task])
        yield Part(part.log, part.begin, part.end, part.lines, part.clock, part.token, number)


def select(name: str, found: Sequence[Part], selection: Selection) -> list[Part]:
    """The selected parts, without those of ranks above 0 that say nothing, unless a rank is given.

    Raises RunError for a task, rank or attempt that is not there.
    """
    left = [*found]
    asked = {"task": selection.task, "rank": selection.rank, "attempt": selection.attempt}
    for option, value in asked.items():
        there = {number for part in left if (number := part.number(option)) is not None}
        if value is not None and value not in there:
            raise RunError(f"--{option} {value}: {name} has {_ranges(option, there)}")
        left = [part for part in left if value in (None, part.number(option))]
    every = selection.rank is not None
    return [part for part in left if every or part.log.rank == 0 or part.says_something]


def _ranges(option: str, numbers: Iterable[int]) -> str:
    """Such as "attempts 1 to 12", "task 0", "ranks 0, 2 to 5"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if not runs:
        return f"no {option} with a log yet"
    words = [str(low) if low == high else f"{low} to {high}" for low, high in runs]
    several = len(runs) > 1 or runs[0][0] != runs[0][1]
    return f"{option}{'s' if several else ''} {', '.join(words)}"
