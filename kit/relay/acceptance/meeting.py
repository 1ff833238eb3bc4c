"""The ranks import their libraries, meet, and add up a number on their devices: each timed.

`join` is also how the ranks of other calls meet.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any, cast

from kit.cluster.jobs import Job
from kit.config.cluster import Cluster
from kit.config.section import read_resolved
from kit.errors import JobFailed
from kit.output import log
from kit.output.quantities import duration
from kit.relay.acceptance.verdicts import Verdict
from kit.run.environment import importing
from kit.store.files import read_json, write_json
from kit.training import rendezvous
from kit.training.attempt import RankInfo

if TYPE_CHECKING:
    from pathlib import Path

    from kit.relay.acceptance.trials import Trials
    from kit.store.paths import Run
    from kit.store.records import Start
    from kit.training.collectives import Collectives
    from kit.training.device import Device

NAME = "meeting"
_POLL, _PATIENCE = 0.1, 600.0  # seconds, for the place where ranks meet


def met(trials: Trials) -> Verdict:
    """Let the ranks of one node meet."""
    run = trials.bare(NAME)
    trials.call(run, Job(NAME, work, resources="training"))
    facts: dict[str, Any] = read_json(_result(run))
    words = (
        f"{facts['ranks']} over {facts['backend']} in {duration(facts['meeting_seconds'])}, after "
        f"{duration(facts['import_seconds'])} of imports; first sum in {duration(facts['sum_seconds'])}"
    )
    return Verdict("ranks meet", "ok", words, facts)


def work(run: Run, task: int, tasks: int) -> None:  # noqa: ARG001  as of every job
    """Meet, in every rank. Raises JobFailed if a rank is missing from the sum."""
    cluster, info = read_resolved(run.cluster, Cluster), RankInfo.from_environment()
    log.set_place(f"rank {info.rank}", quiet=info.rank > 0)
    times = [time.monotonic()]
    with importing():
        from kit.training import engine
        from kit.training.device import Device

        engine.preload(cluster.device)
    times.append(time.monotonic())
    device = Device(cluster.device, info.local_rank)
    ranks = join(run, NAME, info, device, cluster.training.interface)
    times.append(time.monotonic())
    total = _sum(device)
    times.append(time.monotonic())
    if total != info.world_size:
        raise JobFailed(f"the sum of ones over {info.world_size} ranks is {total}")
    spans = [later - earlier for earlier, later in itertools.pairwise(times)]
    importing_for, meeting_for, sum_for = (max(of) for of in zip(*ranks.gather(spans), strict=True))
    facts = {
        "ranks": info.world_size,
        "backend": device.backend,
        "import_seconds": importing_for,
        "meeting_seconds": meeting_for,
        "sum_seconds": sum_for,
    }
    if info.rank == 0:
        write_json(_result(run), facts)
    ranks.barrier()
    ranks.leave()


def join(run: Run, name: str, info: RankInfo, device: Device, interface: str | None) -> Collectives:
    """Join the other ranks of a call at the place that rank 0 writes down; `name`: of the job."""
    from kit.training.collectives import Collectives
    from kit.training.interruption import Interruption

    place = run.job_logs(name) / f"place-{info.job}.json"
    if info.rank == 0:
        addresses = rendezvous.published(info.nodes, interface)
        store = rendezvous.open_store(info.job, info.world_size, info.nodes)
        here = {"node": os.uname().nodename, "addresses": addresses, "port": store.port}
        write_json(place, here | {"ranks": info.world_size})
    else:
        store = rendezvous.connect(_await(place), info.rank, info.node)
    joining = (device, store, info.rank, info.world_size, Interruption())
    return Collectives.join(*joining, nodes=info.nodes)


def _await(place: Path) -> Start:
    for _ in range(round(_PATIENCE / _POLL)):
        if place.is_file():
            return cast("Start", read_json(place))
        time.sleep(_POLL)
    raise JobFailed(f"{place}: not written by rank 0 within {_PATIENCE:g} s")


def _sum(device: Device) -> float:
    """The sum of a one of each rank, by the library that adds up gradients."""
    import torch
    import torch.distributed as dist

    one = torch.ones((), device=device.prepare())
    dist.all_reduce(one)
    return float(one)


def _result(run: Run) -> Path:
    return run.job_logs(NAME) / "result.json"
