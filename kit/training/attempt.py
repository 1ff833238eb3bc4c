"""One attempt of the training job: the ranks meet, train, and record how it ended.

Rank 0 claims the attempt by creating its directory, chooses the checkpoint, opens a port, and
writes `start.json`; the other ranks wait for that file. After the last barrier rank 0 writes
`end.json`; if it is missing, the attempt crashed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from kit.config import amendments
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.errors import ConfigError, Interrupted, JobFailed, TrainingStopped
from kit.output import log
from kit.run.directory import is_rehearsal
from kit.run.environment import importing
from kit.store import records
from kit.store.files import read_json, write_json
from kit.tracking import ledger
from kit.training import flight_recorder, rendezvous
from kit.training.unit import TrainingUnit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._C._distributed_c10d import Store

    from kit.config.recipe import Health
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run
    from kit.store.units import Unit
    from kit.training.device import Device
    from kit.training.health import Watchdog

_POLL = 0.1


@dataclass(frozen=True)
class RankInfo:
    """This process among the ranks; `job` is a token that the ranks of one attempt share."""

    job: str
    rank: int
    world_size: int
    local_rank: int
    nodes: int
    node: int = 0  # among the nodes

    @classmethod
    def from_environment(cls) -> RankInfo:
        """Read the environment that the launcher sets for every rank."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "EKIDEN_NODES")
        rank, world_size, local_rank, nodes = (int(os.environ[name]) for name in names)
        node = int(os.environ.get("SLURM_NODEID", "0"))
        return cls(os.environ["EKIDEN_JOB"], rank, world_size, local_rank, nodes, node)

    def topology(self, backend: str) -> records.Topology:
        """How the ranks are placed, and the library by which they communicate."""
        ranks = self.world_size
        return {
            "nodes": self.nodes,
            "ranks_per_node": ranks // self.nodes,
            "ranks": ranks,
            "backend": backend,
        }


def preload() -> None:
    """Import everything a rank needs: for the fork server, once for all ranks and attempts."""
    from kit.training import engine, loop  # noqa: F401

    engine.preload()


def units(run: Run, _: Recipe) -> list[Unit]:
    """The stage's single unit."""
    return [TrainingUnit.for_run(run)]


def work(run: Run, task: int, tasks: int) -> None:  # noqa: ARG001  one task of several ranks
    """Run one attempt. Raises Interrupted if it must be requeued, or was cancelled."""
    from kit.training.interruption import Interruption

    interruption = Interruption()  # before the slow imports: a signal may come at once
    rows = amendments.read(run)  # counted first: later ones belong to the next attempt
    amended = len(rows)
    # After a crash an amendment may be on record but not yet in the recipe's file.
    recipe = amendments.apply_to_recipe(rows, read_resolved(run.recipe, Recipe))
    cluster = read_resolved(run.cluster, Cluster)
    info = RankInfo.from_environment()
    log.set_place(f"rank {info.rank}", quiet=info.rank > 0)
    if info.rank == 0:
        log.set_place(f"attempt {_next(run).number} rank 0")
    if "torch" not in sys.modules:
        log.info("importing torch")

    with importing():
        from kit.training import engine
        from kit.training.collectives import Collectives
        from kit.training.context import Context
        from kit.training.loop import Loop

    device = _device(recipe, cluster, info)
    rules = recipe.training.health
    if info.rank == 0:
        attempt, store = claim(run, info, amended, device.backend, cluster.training.interface)
    else:
        attempt, store = join(run, info, rules.start_seconds)
    if info.local_rank == 0:
        records.adopt_preflight(run, attempt, info.job)
    log.set_place(f"attempt {attempt.number} rank {info.rank}", quiet=info.rank > 0)
    if records.start(attempt)["amendments"] != amended:
        raise JobFailed("the run was amended while its ranks were starting; they start again")
    watchdog = _watchdog(attempt, info, rules)
    collectives = Collectives.join(
        *(device, store, info.rank, info.world_size, interruption), nodes=info.nodes
    )
    with importing():
        engine.preload(device.kind)
    with _out_of_memory_explained(recipe, attempt, info, rehearses=is_rehearsal(run)):
        context = Context(run, recipe, cluster, attempt, device, collectives, watchdog)
        outcome = Loop(context).run()
    collectives.barrier()
    if info.rank == 0:
        end: records.End = {"job": info.job, "time": time.time(), **outcome}
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


def _device(recipe: Recipe, cluster: Cluster, info: RankInfo) -> Device:
    """The device of this rank. Raises ConfigError if it cannot train there."""
    from kit.training import numerics
    from kit.training.device import Device

    # First: libraries of the GPU read the environment when they start.
    numerics.settle(cluster.device, deterministic=recipe.training.deterministic)
    device = Device(cluster.device, info.local_rank)
    device.check(recipe.training.precision)
    return device


def _watchdog(attempt: Attempt, info: RankInfo, rules: Health) -> Watchdog:
    from kit.training.health import Watchdog

    flight_recorder.set_up(attempt, rules)
    return Watchdog(
        *(attempt.hang, info.job, info.rank, rules.hang_seconds, rules.start_seconds),
        record=lambda: flight_recorder.write(attempt, info.rank),
    )


@contextlib.contextmanager
def _out_of_memory_explained(
    recipe: Recipe, attempt: Attempt, info: RankInfo, *, rehearses: bool = False
) -> Iterator[None]:
    """Raise ConfigError if memory runs out before the run's first step: a retry would fail too.

    In a rehearsal at any step: it asks whether the run fits.
    """
    try:
        yield
    except RuntimeError as error:
        reason = _out_of_memory(error)
        resumed = records.start(attempt)["from_step"] > 0
        stepped = resumed or any(row["kind"] == "step" for row in ledger.rows(attempt))
        if reason is None or (stepped and not rehearses):
            raise
        raise ConfigError(
            f"training.micro_batch={recipe.training.micro_batch}: {records.DOES_NOT_FIT} rank "
            f"{info.rank} ({reason}); lower it, set training.loss_chunk or "
            "model.activation_checkpointing=true, or use more ranks"
        ) from error


def _out_of_memory(error: RuntimeError) -> str | None:
    """What torch says of memory that ran out, of a GPU or of the machine; None for another error."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return str(error).split(". ", 1)[0]
    _, _, rest = str(error).partition("DefaultCPUAllocator: ")
    return rest.splitlines()[0].split(". ", 1)[0] if "can't allocate memory" in rest else None


def claim(
    run: Run, info: RankInfo, amended: int, backend: str = "gloo", interface: str | None = None
) -> tuple[Attempt, Store]:
    """Rank 0: begin a new attempt, which applies the first `amended` amendments.

    `interface`: the network between the nodes, if given. Raises JobFailed if another process claims the
    same number.
    """
    from kit.training import checkpoint, loading

    imported = time.time()
    run.attempts.mkdir(parents=True, exist_ok=True)
    attempt = _next(run)
    try:
        attempt.root.mkdir()
    except FileExistsError:
        raise JobFailed(
            f"{attempt.root}: another job has just started this attempt; cancel one of the two"
        ) from None
    resumed = checkpoint.newest(run)  # all ranks verify it (kit/training/loading.py)
    published = rendezvous.published(info.nodes, interface)
    store = rendezvous.open_store(info.job, info.world_size, info.nodes)
    start: records.Start = {
        "job": info.job,
        "ranks": info.world_size,
        "node": socket.gethostname(),
        "addresses": published,
        "port": store.port,
        "topology": info.topology(backend),
        **loading.beginning(run, resumed),
        "amendments": amended,
        **_times(run, info.job, imported),
        "time": time.time(),
    }
    write_json(attempt.start, start)
    return attempt, store


class _Times(TypedDict):
    times: records.StartTimes
    nodes: NotRequired[str]


def _times(run: Run, job: str, imported: float) -> _Times:
    """The times of this start so far, with those of Slurm if it has answered (kit/cluster/job_times.py)."""
    times: records.StartTimes = {"imported": imported}
    if started := os.environ.get("EKIDEN_STARTED"):
        times["started"] = float(started)
    answer = run.job_times("train", job)
    if not answer.is_file():
        return {"times": times}
    of_job: records.JobTimes = read_json(answer)
    return {"times": {**times, **of_job["times"]}, "nodes": of_job["nodes"]}


def _next(run: Run) -> Attempt:
    return run.attempt(max((a.number for a in run.claimed_attempts()), default=0) + 1)


def join(run: Run, info: RankInfo, patience: float) -> tuple[Attempt, Store]:
    """Any other rank: wait for the attempt that rank 0 begins.

    Raises JobFailed after `patience` seconds, not counting time in which the job was suspended.
    """
    for _ in range(round(patience / _POLL)):
        for attempt in reversed(ledger.attempts(run)):
            start = records.start(attempt)
            if start["job"] == info.job:
                return attempt, rendezvous.connect(start, info.rank, info.node)
        time.sleep(_POLL)
    raise JobFailed(
        f"rank {info.rank}: rank 0 of job {info.job} started no attempt within "
        f"training.health.start_seconds={patience:g} s"
    )
