"""One attempt of the training job: the ranks find each other, train, and say how it ended.

Rank 0 claims the attempt by creating its directory, chooses the checkpoint, opens a port, and
writes `start.json`; the other ranks wait for that file. After the last barrier rank 0 writes
`end.json`; where it is missing, the attempt crashed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.config import amendments
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.errors import ConfigError, Interrupted, JobFailed, TrainingStopped
from kit.output import log
from kit.store import records
from kit.store.files import write_json
from kit.tracking import ledger
from kit.training.unit import TrainingUnit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._C._distributed_c10d import Store

    from kit.store.paths import Attempt, Run
    from kit.store.units import Unit

_PATIENCE = 300  # seconds a rank waits for rank 0, which verifies a checkpoint first
_POLL = 0.1


@dataclass(frozen=True)
class RankInfo:
    """Where this process stands among the ranks; `job` is the same for all ranks of an attempt only."""

    job: str
    rank: int
    ranks: int
    local_rank: int
    nodes: int

    @classmethod
    def from_environment(cls) -> RankInfo:
        """From the environment that the launcher sets for every rank."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "EKIDEN_NODES")
        rank, ranks, local_rank, nodes = (int(os.environ[name]) for name in names)
        return cls(os.environ["EKIDEN_JOB"], rank, ranks, local_rank, nodes)


def preload() -> None:
    """Import all that a rank needs: for the fork server, once for all ranks and attempts."""
    from kit.training import engine, loop  # noqa: F401

    engine.preload()


def units(run: Run, _: Recipe) -> list[Unit]:
    """The one unit of the stage."""
    return [TrainingUnit.of(run)]


def work(run: Run, task: int, tasks: int) -> None:  # noqa: ARG001  one task of several ranks
    """One attempt. Raises Interrupted where it is to be requeued, or was cancelled."""
    from kit.training.interruption import Interruption

    interruption = Interruption()  # before the slow imports: a signal may come at once
    rows = amendments.read(run)  # counted first: a later one is the next attempt's
    amended = len(rows)
    # A crash may have left the record alone.
    recipe = amendments.apply_to_recipe(rows, read_resolved(run.recipe, Recipe))
    cluster = read_resolved(run.cluster, Cluster)
    place = RankInfo.from_environment()
    log.set_place(f"rank {place.rank}", quiet=place.rank > 0)
    if place.rank == 0:
        log.set_place(f"attempt {_next(run).number} rank 0")
    if "torch" not in sys.modules:
        log.info("importing torch")

    from kit.training.collectives import Collectives
    from kit.training.context import Context
    from kit.training.device import Device
    from kit.training.health import Watchdog
    from kit.training.loop import Loop

    device = Device(cluster.device, place.local_rank)
    device.check(recipe.training.precision)
    attempt, store = claim(run, place, amended) if place.rank == 0 else follow(run, place)
    log.set_place(f"attempt {attempt.number} rank {place.rank}", quiet=place.rank > 0)
    if records.start(attempt)["amendments"] != amended:
        raise JobFailed("the run was amended while its ranks began; they begin anew")
    rules = recipe.training.health
    watchdog = Watchdog(
        attempt.hang, place.job, place.rank, rules.hang_seconds, rules.start_seconds
    )
    collectives = Collectives.join(device.backend, store, place.rank, place.ranks, interruption)
    with _memory_suffices(recipe, attempt, place):
        context = Context(run, recipe, cluster, attempt, device, collectives, watchdog)
        outcome = Loop(context).run()
    collectives.barrier()
    if place.rank == 0:
        end: records.End = {"job": place.job, "time": time.time(), **outcome}
        write_json(attempt.end, end)
    collectives.barrier()
    collectives.leave()
    watchdog.disarm()
    if outcome["outcome"] == "failed":
        raise TrainingStopped(f"{outcome['reason']}; step {outcome['saved']} is saved")
    if outcome["outcome"] != "done":
        raise Interrupted(
            f"{outcome['reason']} at step {outcome['step']}; step {outcome['saved']} is saved"
        )


@contextlib.contextmanager
def _memory_suffices(recipe: Recipe, attempt: Attempt, place: RankInfo) -> Iterator[None]:
    """Raises ConfigError where the GPU's memory ends before the run's first step: it always would."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        begun = records.start(attempt)["from_step"] > 0
        if begun or any(row["kind"] == "step" for row in ledger.rows(attempt)):
            raise
        said = str(error).split(". ", 1)[0]
        raise ConfigError(
            f"training.micro_batch={recipe.training.micro_batch}: too much for the memory of rank "
            f"{place.rank}'s GPU ({said}); lower it, set training.loss_chunk or "
            "model.activation_checkpointing=true, or take more ranks"
        ) from error


def claim(run: Run, place: RankInfo, amended: int) -> tuple[Attempt, Store]:
    """Rank 0: begin a new attempt, that knows so many amendments.

    Raises JobFailed where another process claims the same number.
    """
    from torch._C._distributed_c10d import TCPStore

    from kit.training import checkpoint

    run.attempts.mkdir(parents=True, exist_ok=True)
    attempt = _next(run)
    try:
        attempt.root.mkdir()
    except FileExistsError:
        raise JobFailed(
            f"{attempt.root}: another job has just begun this attempt; cancel one"
        ) from None
    resumed = checkpoint.newest(run)
    # One node talks over loopback, whatever its name resolves to.
    host = "127.0.0.1" if place.nodes == 1 else socket.gethostname()
    store = TCPStore(host, 0, place.ranks, is_master=True, wait_for_workers=False)
    from_step = resumed.step if resumed else 0
    # One that an earlier attempt did from here, before it died: it stands in the ledger.
    validated = any(
        row["kind"] == "validation" and row["step"] == from_step
        for row in ledger.canonical(run, from_step - 1)
    )
    start: records.Start = {
        "job": place.job,
        "ranks": place.ranks,
        "node": socket.gethostname(),
        "host": host,
        "port": store.port,
        "from_step": from_step,
        "validated": validated,
        "checkpoint": resumed.folder.name if resumed else None,
        "amendments": amended,
        "time": time.time(),
    }
    write_json(attempt.start, start)
    return attempt, store


def _next(run: Run) -> Attempt:
    return run.attempt(max((a.number for a in run.claimed_attempts()), default=0) + 1)


def follow(run: Run, place: RankInfo) -> tuple[Attempt, Store]:
    """Another rank: find the attempt that rank 0 of the same job began. Raises JobFailed after 300 s."""
    from torch._C._distributed_c10d import TCPStore

    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for attempt in reversed(ledger.attempts(run)):
            start = records.start(attempt)
            if start["job"] == place.job:
                return attempt, TCPStore(start["host"], start["port"], place.ranks, is_master=False)
        time.sleep(_POLL)
    raise JobFailed(
        f"rank {place.rank}: rank 0 of job {place.job} did not begin within {_PATIENCE} s"
    )
