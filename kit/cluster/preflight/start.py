"""The short form of the checks, before each attempt of the training: one process a node, for milliseconds.

It refuses a start only if the fault is one of the node itself, such as a GPU with memory errors. That ends
the job with a record that names the node; the exit trap leaves that node out and requeues
(kit/cluster/restart_rules.py). Everything else is a warning in the log, which training may cope with.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kit.cluster.jobs import token
from kit.cluster.preflight.finding import Finding, Site, verdict, warning
from kit.errors import JobFailed
from kit.output import log
from kit.output.quantities import count, duration
from kit.store.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.store.paths import Run
    from kit.store.records import Preflight

CHECK = "check"  # the job that checks nodes (kit/cluster/preflight/node.py)
_PATIENCE = 50.0  # seconds for all checks: a file system or a driver may never answer


def before_attempt(run: Run, name: str) -> None:
    """Check this node, if this is the first process on it of a training job.

    Raises JobFailed if the node is unfit. The other ranks wait for the attempt meanwhile
    (kit/training/attempt.py).
    """
    if name != "train" or os.environ["LOCAL_RANK"] != "0":
        return
    began = time.monotonic()
    findings = _within(_PATIENCE, lambda: _findings(run))
    seconds = time.monotonic() - began
    _record(run, name, findings, seconds)
    unfit = [finding for finding in findings if finding.result == "bad"]
    for finding in findings:
        if finding.result == "warning":
            log.warning(f"preflight: {finding}")
    if unfit:
        raise JobFailed(f"preflight: node {node_name()} is unfit: {unfit[0]}")
    log.info(f"preflight: {count(len(findings), 'check')} in {duration(seconds)}")


def node_name() -> str:
    """The name of this node: Slurm's, which need not be its host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _findings(run: Run) -> Iterator[Finding]:
    """The findings of the checks, of which only faults of the node are bad."""
    from kit.cluster.preflight import catalogue
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.config.section import read_resolved

    recipe, cluster = read_resolved(run.recipe, Recipe), read_resolved(run.cluster, Cluster)
    site = Site(run, recipe, cluster, node_name())
    for finding in catalogue.run(site, catalogue.at_start(site)):
        tolerated = finding.result == "bad" and not finding.of_node
        yield replace(finding, result="warning") if tolerated else finding


def _within(seconds: float, look: Callable[[], Iterator[Finding]]) -> Sequence[Finding]:
    """The findings made within a time; the rest is left to a thread that ends with the process."""
    found: list[Finding] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for finding in look():
                found.append(finding)  # noqa: PERF402  one by one: the next may never come
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True, name="preflight")
    thread.start()
    thread.join(seconds)
    complete = [*found]
    if thread.is_alive():
        after = f" after {complete[-1].name}" if complete else ""
        remedy = "a file system or a driver does not answer; training starts all the same"
        complete.append(warning("preflight", f"no answer in {seconds:.0f} s{after}", remedy))
    if failed:
        text = " ".join(f"{type(failed[0]).__name__}: {failed[0]}".split())
        complete.append(warning("preflight", f"not finished ({text})", "report this"))
    return complete


def _record(run: Run, name: str, findings: Sequence[Finding], seconds: float) -> None:
    """Write the record of this node; a full disk does not keep training from its start."""
    record: Preflight = {
        "job": token(),
        "node": node_name(),
        "verdict": verdict(findings),
        "checks": [
            {"name": one.name, "result": one.result, "found": one.found, "remedy": one.remedy}
            for one in findings
        ],
        "seconds": round(seconds, 3),
        "time": time.time(),
    }
    with contextlib.suppress(OSError):
        write_json(run.preflight(name, token(), node_name()), record)
