"""Measurements within the ranks: agreement, loading, memory by part, and saving.

All ranks of a trial that has ended meet again, load its checkpoint into an engine of their own, and carry
out the parts of a step and of a save one after the other. `answer` reads the result of `work`.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.output import log
from kit.relay.acceptance import meeting
from kit.run.environment import importing
from kit.store.files import read_json, write_json
from kit.training.attempt import RankInfo, preload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kit.store.paths import Run
    from kit.training.checkpoint import Checkpoint
    from kit.training.collectives import Collectives
    from kit.training.device import Device
    from kit.training.engine import Engine

__all__ = ["NAME", "answer", "preload", "work"]  # `preload` is for the fork server, on a CPU

NAME = "probe"
_ROUNDS = 200  # of agreement


def work(run: Run, task: int, tasks: int) -> None:  # noqa: ARG001  as of every job
    """Probe, in every rank."""
    recipe, cluster = read_resolved(run.recipe, Recipe), read_resolved(run.cluster, Cluster)
    info = RankInfo.from_environment()
    log.set_place(f"rank {info.rank}", quiet=info.rank > 0)
    with importing():
        from kit.training import engine
        from kit.training.device import Device

    device = Device(cluster.device, info.local_rank)
    ranks = meeting.join(run, NAME, info, device, cluster.training.interface)
    with importing():
        engine.preload(device.kind)  # DeepSpeed is imported for one kind of device
    found = _probe(run, recipe, device, ranks)
    if info.rank == 0:
        write_json(_result(run), found)
    ranks.barrier()
    ranks.leave()


def answer(run: Run) -> dict[str, Any]:
    """The result of `work`: seconds and bytes."""
    found: dict[str, Any] = read_json(_result(run))
    return found


def _probe(run: Run, recipe: Recipe, device: Device, ranks: Collectives) -> dict[str, Any]:
    from kit.data import index, shards, tokens
    from kit.training import checkpoint
    from kit.training.batches import training_batches
    from kit.training.engine import Engine

    saved = checkpoint.committed(run)[0]
    found: dict[str, Any] = {
        "agreement": _timed(ranks, lambda: [ranks.begin_to_agree()() for _ in range(_ROUNDS)])
        / _ROUNDS,
        "checkpoint_bytes": sum(file["size"] for file in saved.record["files"].values()),
        "verify_seconds": _timed(ranks, lambda: _verify(saved, ranks)),
    }
    row = index.load(recipe).open(shards.TRAIN, recipe)
    batches = training_batches(recipe, row, ranks.rank, ranks.world_size)
    micro_batches = min(2, batches.accumulation)
    built: list[Engine] = []

    def build() -> None:
        vocabulary = tokens.tokenizer_info(recipe)
        built.append(Engine(recipe, device, micro_batches, vocabulary))

    found["build_seconds"] = _timed(ranks, build)
    (engine,) = built
    before = _bytes_read()
    found["read_seconds"] = _timed(ranks, lambda: engine.load(saved.state, saved.step))
    found["read_bytes"] = sum(read for (read,) in ranks.gather([_bytes_read() - before]))
    found["memory"] = _memory(engine, batches, micro_batches, device, ranks)
    return found | _save(run, engine, saved.step, ranks)


def _timed(ranks: Collectives, work: Callable[[], object]) -> float:
    """Seconds from the moment when all ranks begin until the last has ended."""
    ranks.barrier()
    began = time.perf_counter()
    work()
    return max(seconds for (seconds,) in ranks.gather([time.perf_counter() - began]))


def _verify(saved: Checkpoint, ranks: Collectives) -> None:
    """Rank 0 reads and hashes all files, as before each attempt; from the disk, where it can be made to."""
    if ranks.rank > 0:
        return
    for name in saved.record["files"]:
        with (saved.state / name).open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    saved.ensure_intact_and_own()


def _bytes_read() -> int:
    """Bytes that this process has read from files so far (proc(5), /proc/PID/io)."""
    with open("/proc/self/io", encoding="ascii") as lines:  # noqa: PTH123
        return int(next(line for line in lines if line.startswith("rchar:")).split()[1])


def _memory(
    engine: Engine, batches: Any, micro_batches: int, device: Device, ranks: Collectives
) -> dict[str, float | None]:
    """Bytes by part of the rank that has most; None for parts that torch does not count on a CPU.

    The second of two steps is weighed, when moments and buffers are there.
    """
    import torch

    from kit.training.verdict import Limits

    marks = _Marks(device, engine.forward)
    engine.forward = marks  # type: ignore[assignment]  # has its methods
    found: dict[str, float] = {}
    for step in range(2):
        rest = device.allocated()
        device.forget_peak()
        total = torch.zeros((), device=engine.device)
        for micro in range(micro_batches):
            block = device.staged(
                torch.from_numpy(batches.read(step * batches.global_batch, micro))
            )
            total = total + engine.micro_batch(block, micro, last=micro == micro_batches - 1)
        kept, peak = device.allocated() - rest, device.peak_memory()
        engine.update(total, Limits())
        activations = marks.after - marks.before
        found = {
            "gradients": kept,
            "activations": activations,
            "buffers": peak - rest - kept - activations,
        }
    weights, optimizer = engine.state_tensors()
    held = {"weights": _size(weights), "optimizer": _size(optimizer)}
    found = held | {"other": device.allocated() - sum(held.values())} | found
    most = [max(values) for values in zip(*ranks.gather([*found.values()]), strict=True)]
    counted = dict(zip(found, most, strict=True))
    return {
        name: value if device.is_gpu or name in held else None for name, value in counted.items()
    }


class _Marks:
    """In place of the stopwatch of the forward passes: the memory before and after the last of them."""

    def __init__(self, device: Device, stopwatch: Any) -> None:
        self._device, self._stopwatch = device, stopwatch
        self.before = self.after = 0

    def __enter__(self) -> None:
        self.before = self._device.allocated()

    def __exit__(self, *exception: object) -> None:
        self.after = self._device.allocated()


def _size(tensors: list[Any]) -> int:
    """Bytes of the storages of tensors, each counted once."""
    storages = {(one := tensor.untyped_storage()).data_ptr(): one.nbytes() for tensor in tensors}
    return sum(storages.values())


def _save(run: Run, engine: Engine, step: int, ranks: Collectives) -> dict[str, Any]:
    """Copy the state to host memory, twice, as the first time buffers are made; then write it."""
    from kit.training import state_files

    state: dict[str, Any] = {}
    first = _timed(ranks, lambda: state.update(engine.capture(step)))
    copying = _timed(ranks, lambda: state.update(engine.capture(step)))
    folder = run.root / NAME
    folder.mkdir(exist_ok=True)
    files: list[int] = []

    def write() -> None:
        files.extend(
            state_files.write(folder / name, value)["size"] for name, value in state.items()
        )

    writing = _timed(ranks, write)
    written = sum(size for (size,) in ranks.gather([sum(files)]))
    if ranks.rank == 0:
        shutil.rmtree(folder)
    return {
        "first_copy_seconds": first,
        "copy_seconds": copying,
        "write_seconds": writing,
        "written_bytes": written,
    }


def _result(run: Run) -> Path:
    return run.job_logs(NAME) / "result.json"
