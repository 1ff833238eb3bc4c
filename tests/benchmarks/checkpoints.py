"""Saves beside training, and the disk: what a save in flight costs a step, and rates against dd.

    python -m tests.benchmarks.checkpoints [--json] [--only WORD]

full: steps of a run of two ranks, which fill two cores, while a save of 400 MB a rank is in flight, against
the other steps, and the processor time of the save; free: the same of one rank, which leaves a core to its
writer. disk: writing and loading a file of 400 MB, hash included, against dd on the same disk; before it is
read, the file is dropped from the cache. A few minutes on two idle cores, and 3 GB of disk.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks import harness, runs
from tests.benchmarks.training import STEADY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.benchmarks.harness import Line, Options

EVERY, SAVES = 10, 10
BYTES = 400_000_000
REPETITIONS = 9
# Weights in fp32: 16 bytes each. Of two ranks the first writes 10 of them, the other 6.
WIDTH = ("model.n_embd=640", "model.n_head=10", "model.n_positions=32")
STEP_BAR = "ratio <= 1.05"


@dataclass(frozen=True)
class Period:
    """The steps from a save to the next, and the processor time of each, all ranks."""

    beside: list[float]  # seconds of the steps while the save was in flight
    alone: list[float]
    worked_beside: list[float]
    worked_alone: list[float]

    @property
    def save(self) -> float:
        """Processor seconds of the save: what its steps had more than the others."""
        usual = statistics.mean(self.worked_alone)
        return sum(self.worked_beside) - usual * len(self.worked_beside)


def full(_: Options) -> Iterator[Line]:
    """Two ranks on two cores."""
    yield from _steps("two ranks", ("model.n_layer=10", "training.global_batch=2"), 2)


def free(_: Options) -> Iterator[Line]:
    """One rank, and a core left free."""
    alone = ("cluster.training.ranks_per_node=1", "training.global_batch=1")
    yield from _steps("one rank and a free core", ("model.n_layer=5", *alone), 1)


def _steps(who: str, options: Sequence[str], ranks: int) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        runs.prepare_corpus(folder)
        run = runs.make(
            folder, "saves", *STEADY, *WIDTH, "training.micro_batch=1", *options,
            f"training.checkpoint_every={EVERY}", "tracking.mlflow=null", "tracking.tensorboard=false",
        )  # fmt: skip
        program = stack.enter_context(runs.attempt(run))
        work = _watched(program, EVERY * (SAVES + 1) + 1)
        saves = program.rows("checkpoint")[1:]  # before the first, files and pages are new
        periods = _periods(program.rows("step"), saves, work)
    size = saves[0]["bytes"] / ranks / 1e6
    flight = statistics.median(len(one.beside) for one in periods)
    rested = statistics.median(row["rested"] for row in saves)
    title = f"{who}: a step while a save of {size:.0f} MB a rank is in flight"
    beside, alone = zip(*((one.beside, one.alone) for one in periods), strict=True)
    yield harness.compare(
        f"{title} ({flight:g} of {EVERY} steps; it rests {rested:.2g} s)",
        "s", _medians(beside), _medians(alone), "a step without one", STEP_BAR,
    )  # fmt: skip
    beside, alone = zip(*((one.worked_beside, one.worked_alone) for one in periods), strict=True)
    yield harness.compare(
        f"{who}: processor time of such a step, all ranks",
        "s", _means(beside), _means(alone), "a step without one", STEP_BAR,
    )  # fmt: skip
    # On cores that are all busy a step cannot take less longer than this.
    yield harness.compare(
        f"{who}: processor time of a save",
        "s", [one.save for one in periods], [ranks * sum(one.beside) for one in periods],
        "that of the cores of its ranks while it is in flight", "ratio <= 0.05",
    )  # fmt: skip


def disk(_: Options) -> Iterator[Line]:
    """Rates of a file that is written, synced and hashed, and of one that is read, hashed and loaded."""
    import torch

    from kit.training import file_in_memory, state_files
    from kit.training.host_copy import HostCopy

    with tempfile.TemporaryDirectory() as slow, tempfile.TemporaryDirectory(dir="/dev/shm") as fast:
        file, source, copy = Path(slow) / "a.pt", Path(fast) / "source", Path(slow) / "copy"
        state = HostCopy().take("a.pt", {"module": torch.randn(BYTES // 4)})
        expected = state_files.write(file, state)
        shutil.copyfile(file, source)

        def written() -> float:
            return _rate(lambda: state_files.write(file, state))

        def copied() -> float:
            return _rate(lambda: _dd(f"if={source}", f"of={copy}", "bs=4M", "conv=fsync"))

        def loaded(*, shared: bool) -> float:
            _forget(file)
            return _rate(lambda: load(shared=shared))

        def load(*, shared: bool) -> None:
            with file_in_memory.read(file, expected, shared=shared) as found:
                state_files.read(found, "cpu", lambda: None, mapped=True)

        def read(size: object = "4M") -> float:
            _forget(file)
            return _rate(lambda: _dd(f"if={file}", "of=/dev/null", f"bs={size}"))

        title, bar = f"a file of {BYTES / 1e6:.0f} MB", "ratio >= 0.8"
        pairs = harness.interleave(written, copied, REPETITIONS)
        peer = "dd conv=fsync"
        yield harness.compare(f"{title} is written, hashed and synced", "MB/s", *pairs, peer, bar)
        pairs = harness.interleave(lambda: loaded(shared=False), read, REPETITIONS)
        yield harness.compare(f"{title} is read, verified and loaded", "MB/s", *pairs, "dd", bar)
        name = f"{title}, through the page cache for other ranks, is read, verified and loaded"
        pairs = harness.interleave(lambda: loaded(shared=True), read, REPETITIONS)
        yield harness.compare(name, "MB/s", *pairs, "dd", bar)
        # That dd uses 4 MB of memory again and again; a file that is loaded, and this one, need new memory.
        whole = expected["size"]
        pairs = harness.interleave(lambda: loaded(shared=True), lambda: read(whole), REPETITIONS)
        yield harness.compare(name, "MB/s", *pairs, "dd with all of it in memory", bar)


def _periods(
    steps: Sequence[dict[str, Any]],
    saves: Sequence[dict[str, Any]],
    work: Sequence[tuple[float, float]],
) -> list[Period]:
    """The periods that are complete; `work`: times, and the processor time until then."""
    times, used = (np.array(column) for column in zip(*work, strict=True))

    def worked(row: dict[str, Any]) -> float:
        ends = np.array([row["time"] - row["seconds"], row["time"]])
        began, ended = np.interp(ends, times, used)
        return float(ended - began)

    periods = []
    for save, following in itertools.pairwise(saves):
        inside = [row for row in steps if save["step"] < row["step"] <= following["step"]]
        beside = [row for row in inside if row["time"] - row["seconds"] < save["time"]]
        alone = inside[len(beside) :]
        if beside and alone:
            seconds = [[row["seconds"] for row in rows] for rows in (beside, alone)]
            periods.append(Period(*seconds, [*map(worked, beside)], [*map(worked, alone)]))
    return periods


def _medians(lists: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(one) for one in lists]


def _means(lists: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.mean(one) for one in lists]


def _watched(program: harness.Program, steps: int) -> list[tuple[float, float]]:
    """Wait for so many steps; Unix times, and the processor time that the program had had by then."""
    seen = []
    while len(program.ended()) < steps:
        seen.append((time.time(), program.processor_seconds()))
        time.sleep(0.1)
    return seen


def _rate(work: Callable[[], object]) -> float:
    """MB per second."""
    began = time.perf_counter()
    work()
    return BYTES / 1e6 / (time.perf_counter() - began)


def _dd(*words: str) -> None:
    subprocess.run(["dd", *words, "status=none"], check=True)


def _forget(file: Path) -> None:
    """Drop a synced file from the page cache."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


MEASURES: dict[str, Callable[[Options], Iterator[Line]]] = {
    "full": full,
    "free": free,
    "disk": disk,
}

if __name__ == "__main__":
    sys.exit(harness.main(__doc__ or "", MEASURES))
