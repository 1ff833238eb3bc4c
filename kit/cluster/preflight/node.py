"""The checks of a node as a job: the first process of each node runs them and writes its findings.

    submit a Job(CHECK, node.work, resources="training"), then read `results(run)`

Several nodes also try to reach one another, and compare their clocks: each writes its addresses and the
time to a file, waits for the others' files, and connects.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from kit.cluster.addresses import publish
from kit.cluster.jobs import token
from kit.cluster.preflight import catalogue, network
from kit.cluster.preflight.finding import Finding, Site, warning
from kit.cluster.preflight.start import node_name
from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.errors import ConfigError
from kit.output import log
from kit.output.quantities import count, duration
from kit.run import addresses
from kit.store.files import is_temporary, read_json, write_json
from kit.store.job_tokens import restarts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from kit.store.paths import Run

_PATIENCE = 60.0  # seconds for the files of the other nodes
_POLL = 0.2
_REMEDY = "set cluster.training.interface to the network between the nodes, or open the ports between them"


def work(run: Run, task: int, tasks: int) -> None:  # noqa: ARG001  as of every job
    """Check this node, in its first process only."""
    if os.environ["LOCAL_RANK"] != "0":
        return
    recipe, cluster = read_resolved(run.recipe, Recipe), read_resolved(run.cluster, Cluster)
    site = Site(run, recipe, cluster, node_name())
    skipped: list[tuple[str, str]] = []
    findings = look(site, lambda name, why: skipped.append((name, why)))
    result = {
        "node": site.node,
        "time": time.time(),
        "checks": [finding.facts() for finding in findings],
        "skipped": [{"name": name, "why": why} for name, why in skipped],
    }
    write_json(_results(run) / token() / f"{site.node}.json", result)
    log.info(f"check: {count(len(findings), 'finding')} on {site.node}")


def look(site: Site, skip: Callable[[str, str], object]) -> list[Finding]:
    """The findings on this node; those of its neighbours too, if the job has several."""
    publish()
    names = catalogue.on_node(site)
    findings = list(catalogue.run(site, names, skip))
    if site.cluster.training.nodes > 1 and "address" in names:
        findings += neighbours(site, time.time)
    return findings


def results(run: Run) -> list[dict[str, Any]]:
    """The findings of the nodes so far, in the last start of the job, by name of the node."""
    starts = sorted(_results(run).glob("*"), key=lambda path: restarts_of(path.name))
    return [read_json(path) for start in starts[-1:] for path in _whole(start)]


def neighbours(
    site: Site, now: Callable[[], float], patience: float = _PATIENCE
) -> Iterator[Finding]:
    """Whether the other nodes of the job can be reached, and whether clocks agree.

    `now` is this node's clock, in Unix seconds.
    """
    folder = site.run.root / "nodes" / token()
    others = site.cluster.training.nodes - 1
    own: list[str] = []
    with contextlib.suppress(ConfigError):  # the check `address` says so
        own = network.of_node(site)
    try:
        with network.listening() as port:
            mine = {"node": site.node, "addresses": own, "port": port, "time": now()}
            write_json(folder / f"{site.node}.json", mine)
            found = _await(folder, site.node, others, patience, now)
            yield _reached(found, others, patience)
            write_json(folder / f"{site.node}.done", True)
            _await_done(
                folder, others + 1, patience
            )  # until then they may still connect to this one
    except OSError as error:
        text = f"no port can be listened on ({error.strerror or error})"
        yield Finding("address", "bad", text, "see the check port")
        return
    if "clock" not in site.cluster.checks.skip:
        yield _clocks(found, site.cluster.checks.clock_seconds)


def _reached(found: Sequence[dict[str, Any]], others: int, patience: float) -> Finding:
    """Connect to each of the other nodes."""
    if len(found) < others:
        text = f"{others - len(found)} of {count(others, 'other node')} wrote no file in {patience:.0f} s"
        remedy = "see that all nodes share the workspace, and the log of the job"
        return Finding("address", "bad", text, remedy)
    for other in found:
        try:
            addresses.reach(other["addresses"], other["port"])
        except addresses.Unreachable as why:
            text = f"{other['node']}: cannot be reached at port {other['port']} ({why})"
            return Finding("address", "bad", text, _REMEDY)
    names = ", ".join(other["node"] for other in found)
    return Finding("address", "ok", f"reaches {names}")


def _clocks(found: Sequence[dict[str, Any]], limit: float) -> Finding:
    """A file that was written in this node's future: the writer's clock is ahead, by that or more."""
    ahead = {other["node"]: other["time"] - other["seen"] for other in found}
    worst = max(ahead, key=lambda node: ahead[node], default=None)
    if worst is None or ahead[worst] <= limit:
        return Finding("clock", "ok", f"none of {count(len(ahead), 'other node')} is ahead")
    text = f"{worst} is {duration(ahead[worst])} or more ahead of this node"
    return warning("clock", text, "synchronise the clocks (chrony or ntpd on each node)")


def _await(
    folder: Path, own: str, others: int, patience: float, now: Callable[[], float]
) -> list[dict[str, Any]]:
    """The files of the other nodes, each with the time at which it was seen here."""
    seen: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + patience
    while len(seen) < others and time.monotonic() < deadline:
        for path in _whole(folder):
            if path.stem not in (own, *seen):
                seen[path.stem] = read_json(path) | {"seen": now()}
        if len(seen) < others:
            time.sleep(_POLL)
    return list(seen.values())


def _await_done(folder: Path, nodes: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while len([*folder.glob("*.done")]) < nodes and time.monotonic() < deadline:
        time.sleep(_POLL)


def _whole(folder: Path) -> list[Path]:
    """The files of nodes in a folder, without those that are being written."""
    return sorted(path for path in folder.glob("*.json") if not is_temporary(path))


def _results(run: Run) -> Path:
    return run.root / "results"
