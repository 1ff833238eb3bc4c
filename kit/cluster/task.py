"""The program of every task: one function of a stage, with the run's path and the number of a task.

    python -m kit.cluster.task RUN NAME MODULE:FUNCTION TASKS NUMBERS

NUMBERS are the tasks of a job, out of TASKS: 0-9, or 0,3,7-9. An element of a Slurm array takes the one at
its own index. The task reads the run's code and its files; nothing that it reads is a pickle.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import entry
from kit.cluster.state import own_id
from kit.run import kept_code
from kit.run.environment import importing
from kit.store.files import write_text
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kit.cluster.jobs import Job

MODULE = "kit.cluster.task"
WORDS = "EKIDEN_TASK"  # the words of a task that is forked, one a line
# Variables with the place of a process, as Slurm names them.
_RANKS = {
    "RANK": "SLURM_PROCID",
    "LOCAL_RANK": "SLURM_LOCALID",
    "WORLD_SIZE": "SLURM_NTASKS",
}
_NODES = ("SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES")  # a step may be smaller than its job


@dataclass(frozen=True)
class Work:
    """The work of a job, as the words of a command."""

    function: str  # MODULE:FUNCTION
    tasks: int
    numbers: Sequence[int]

    @staticmethod
    def of(job: Job) -> Work:
        """The work of all tasks of a job that are to be submitted."""
        name = f"{job.work.__module__}:{job.work.__qualname__}"
        return Work(name, job.tasks, job.task_numbers)

    def words(self, run: Run, name: str) -> list[str]:
        """The arguments of this module."""
        numbers = ",".join(_ranges(self.numbers))
        return [str(run.root), name, self.function, str(self.tasks), numbers]


def main(words: Sequence[str]) -> None:
    """Do the work of this process."""
    root, name, function, tasks, numbers = words
    run, every = Run(Path(root)), _numbers(numbers)
    with importing():
        work = pkgutil.resolve_name(function)
    if "EKIDEN_LOCAL_JOB" in os.environ:  # the supervisor has set the rank
        (number,) = every
        entry.perform(work, run, name, number, int(tasks), {})
        return
    number = every[int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))]
    ranks = {ours: os.environ[slurms] for ours, slurms in _RANKS.items()}
    ranks["EKIDEN_NODES"] = next(os.environ[name] for name in _NODES if name in os.environ)
    entry.perform(work, run, name, number, int(tasks), ranks)
    if ranks["RANK"] == "0":
        write_text(run.task_done(name, own_id()), "")


def known_to(run: Run) -> bool:
    """Whether the code that the run keeps has this module; that of earlier versions unpickles its tasks."""
    return kept_code.has(run, "kit/cluster/task.py")


def _ranges(numbers: Iterable[int]) -> Iterable[str]:
    """Ascending numbers as ranges: 0-2, 5."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [str(low) if low == high else f"{low}-{high}" for low, high in found]


def _numbers(ranges: str) -> list[int]:
    """The numbers that `_ranges` wrote."""
    bounds = (part.partition("-") for part in ranges.split(","))
    return [n for low, _, high in bounds for n in range(int(low), int(high or low) + 1)]


if __name__ == "__main__":
    main(sys.argv[1:])
