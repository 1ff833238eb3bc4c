"""Saves beside training, and the disk: what a save in flight costs a step, and rates against dd.

    python -m tests.benchmarks.checkpoints [--json] [--only WORD]

step: steps of a run of two ranks while a save of 400 MB a rank is in flight, against its other steps, and
the processor time of both. disk: writing and loading a file of 400 MB, hash included, against dd on the
same disk; before it is read, the file is dropped from the cache. A few minutes, and 3 GB of disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import harness, runs
from tests.benchmarks.training import STEADY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.benchmarks.harness import Line, Options

EVERY, SAVES = 6, 7
BYTES = 400_000_000
REPETITIONS = 5
# 50.5 M weights in fp32: 16 bytes each, of which rank 0 writes 10 and rank 1 writes 6.
MODEL = ("model.n_layer=10", "model.n_embd=640", "model.n_head=10", "model.n_positions=32")


def step(_: Options) -> Iterator[Line]:
    """Steps with a save in flight beside those without, in one run."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        runs.prepare_corpus(folder)
        batch = ("training.global_batch=2", "training.micro_batch=1")
        run = runs.make(
            folder, "saves", *STEADY, *MODEL, *batch, f"training.checkpoint_every={EVERY}",
            "tracking.mlflow=null", "tracking.tensorboard=false",
        )  # fmt: skip
        program = stack.enter_context(runs.attempt(run))
        work = _watched(program, EVERY * (SAVES + 1) + 1)
        saves = program.rows("checkpoint")[1:]  # before the first, files and pages are new
        steps = program.rows("step")[EVERY + 1 :]
    flights = [(row["time"] - row["seconds"], row["time"]) for row in saves]
    beside = [row for row in steps if any(a < row["time"] <= b + 0.05 for a, b in flights)]
    alone = [row for row in steps if row not in beside]
    count = min(len(beside), len(alone))
    size = saves[0]["bytes"] / runs.RANKS / 1e6
    title = f"a step while a save of {size:.0f} MB a rank is in flight"
    yield harness.compare(
        title, "s", *_seconds(beside, alone, count), "a step without one", "ratio <= 1.05"
    )
    yield harness.compare(
        f"processor time of it, both ranks ({len(beside)} steps of {len(steps)})",
        "s", *_processor(work, beside, alone), "a step without one", "ratio <= 1.5",
    )  # fmt: skip


def disk(_: Options) -> Iterator[Line]:
    """Rates of a file that is written, synced and hashed, and of one that is read, hashed and loaded."""
    import torch

    from kit.training import file_in_memory, host_copy, state_files

    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir="/dev/shm") as fast:
        file, source, copy = Path(name) / "a.pt", Path(fast) / "source", Path(name) / "copy"
        state = {"module": torch.randn(BYTES // 4)}
        expected = host_copy.write(file, state)
        shutil.copyfile(file, source)

        def written() -> float:
            return _rate(lambda: host_copy.write(file, state))

        def copied() -> float:
            return _rate(lambda: _dd(f"if={source}", f"of={copy}", "bs=4M", "conv=fsync"))

        def loaded() -> float:
            _forget(file)
            return _rate(load)

        def load() -> None:
            with file_in_memory.read(file, expected) as found:
                state_files.read(found.path, "cpu", lambda: None, mapped=True)

        def read() -> float:
            _forget(file)
            return _rate(lambda: _dd(f"if={file}", "of=/dev/null", "bs=4M"))

        title = f"a file of {BYTES / 1e6:.0f} MB"
        pairs = harness.interleave(written, copied, REPETITIONS)
        peer = "dd conv=fsync"
        yield harness.compare(
            f"{title} is written, hashed and synced", "MB/s", *pairs, peer, "ratio >= 0.8"
        )
        pairs = harness.interleave(loaded, read, REPETITIONS)
        yield harness.compare(
            f"{title} is read, verified and loaded", "MB/s", *pairs, "dd", "ratio >= 0.8"
        )


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


def _seconds(
    beside: Sequence[dict[str, Any]], alone: Sequence[dict[str, Any]], count: int
) -> list[list[float]]:
    return [[row["seconds"] for row in rows[:count]] for rows in (beside, alone)]


def _watched(program: harness.Program, steps: int) -> list[tuple[float, float]]:
    """Wait for so many steps; Unix times, and the processor time that the program had had by then."""
    seen = []
    while len(program.ended()) < steps:
        seen.append((time.time(), program.processor_seconds()))
        time.sleep(0.1)
    return seen


def _processor(
    work: Sequence[tuple[float, float]],
    beside: Sequence[dict[str, Any]],
    alone: Sequence[dict[str, Any]],
) -> list[list[float]]:
    """Processor time within the steps of both kinds, on average, from samples of it."""
    import numpy as np

    times, used = (np.array(column) for column in zip(*work, strict=True))

    def of(rows: Sequence[dict[str, Any]]) -> float:
        ends = np.array([row["time"] for row in rows])
        begins = ends - np.array([row["seconds"] for row in rows])
        return float(np.mean(np.interp(ends, times, used) - np.interp(begins, times, used)))

    return [[of(beside)], [of(alone)]]


MEASURES: dict[str, Callable[[Options], Iterator[Line]]] = {"step": step, "disk": disk}

if __name__ == "__main__":
    sys.exit(harness.main(__doc__ or "", MEASURES))
