"""The nodes before anything is trained: the checks of kit/cluster/preflight, and the versions in use."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.cluster.jobs import Job
from kit.cluster.preflight import catalogue, node
from kit.cluster.preflight.finding import Site
from kit.cluster.preflight.start import CHECK, node_name
from kit.output.quantities import count
from kit.relay import machine
from kit.relay.acceptance.verdicts import Verdict
from kit.run import commit
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from kit.relay.acceptance.trials import Trials
    from kit.store.paths import Run

_OF_WORKSPACE = ("space", "inodes", "quota", "locks")  # once, as all nodes share it


def inspect(trials: Trials) -> tuple[Verdict, dict[str, Any]]:
    """The verdict of preflight on all nodes, and the facts of the first."""
    nodes = trials.cluster.training.nodes
    run = trials.bare("preflight", nodes)
    site = Site(run, trials.recipe, trials.cluster, node_name())
    skip = trials.cluster.checks.skip
    found = [
        finding.facts() | {"node": site.node}
        for finding in catalogue.run(site, [name for name in _OF_WORKSPACE if name not in skip])
    ]
    trials.call(run, Job(CHECK, work, resources="training"), nodes)
    for result in node.results(run):
        found += [one | {"node": result["node"]} for one in result["checks"]]
    facts: dict[str, Any] = read_json(_facts(run))
    # In a job the code of this process is a snapshot already, and has the commit.
    code = commit.read(run.code) or commit.read(Path(__file__).resolve().parents[3])
    return _verdict(found), facts | {"commit": code and code[:10]}


def work(run: Run, task: int, tasks: int) -> None:
    """In every rank: the checks by the first of each node, the facts by the first of all."""
    node.work(run, task, tasks)
    if os.environ["RANK"] == "0":
        write_json(_facts(run), _of_this_machine())


def _verdict(found: list[dict[str, Any]]) -> Verdict:
    worse = [one for one in found if one["result"] != "ok"]
    results = {one["result"] for one in found}
    nodes = {one["node"] for one in found}
    words = f"{count(len(found), 'check')} on {count(len(nodes), 'node')}"
    for one in worse:
        remedy = f" ({one['remedy']})" if one["result"] == "bad" else ""
        words += f"; {one['result']}: {one['name']}: {one['found']}{remedy}"
    return Verdict("preflight", "bad" if "bad" in results else "ok", words, {"checks": found})


def _of_this_machine() -> dict[str, Any]:
    """Versions and hardware on which results depend."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    probes = {name: probe() for name, probe in machine.machine() if name in ("CPU", "memory")}
    return {
        "node": socket.gethostname(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if gpus else None,  # type: ignore[no-untyped-call]
        "driver": _driver() if gpus else None,
        "deepspeed": version("deepspeed"),
        "gpus": gpus,
        "cpu": probes["CPU"],
        "memory": probes["memory"],
    }


def _driver() -> str | None:
    """The version of NVIDIA's driver, from nvidia-smi."""
    from kit.cluster.preflight import program

    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    done = program.run(*query) if shutil.which(query[0]) else None
    return done.stdout.split()[0] if done is not None and done.stdout.split() else None


def _facts(run: Run) -> Path:
    return run.job_logs(CHECK) / "machine.json"
