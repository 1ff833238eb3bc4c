"""The exit trap of the batch shell, which requeues its job if the evidence calls for it.

    python -m kit.cluster.requeue RUN JOB EXIT_CODE

It runs when srun has ended, in any way, and decides by kit/cluster/decisions.py. The ranks never requeue
themselves: one of them may be dead. Under preemption it requeues at once: the node is free before the
grace time is over, and a job that left early without a requeue would count as failed.

It must be quick: a site may leave 5 seconds between TERM and KILL (KillWait), mostly used by the ranks.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kit.cluster import decisions, jobs, scheduler
from kit.errors import DONE, FAILED, ClusterError
from kit.output import log, quantities
from kit.store.files import read_json
from kit.store.paths import Run

if TYPE_CHECKING:
    from kit.config.cluster import Cluster

_REQUEUE_TAKES = 60  # seconds at most until Slurm ends the shell of a requeued job


def main(run_root: str, name: str, exit_code: int) -> int:
    """Decide, record the decision, and requeue; returns DONE if the job is done."""
    # A requeue sends SIGTERM to this process too, which still has work to do.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(
        signal.SIGTERM, signal.SIG_DFL
    )  # the shell ignores it, and an ignored signal may get lost
    run = Run(Path(run_root))
    cluster = functools.cache(lambda: _cluster(run))
    queue = scheduler.for_kind(read_json(run.cluster)["kind"])
    job_id, token = queue.own_id(), jobs.token()
    resources = os.environ.get(jobs.RESOURCES, "arrays")  # not set by an earlier version
    of_task = functools.partial(
        decisions.decide_task, name=name, resources=cast("decisions.Resources", resources)
    )
    decide = decisions.decide_training if name == "train" else of_task
    state = queue.state(job_id)
    decision = decide(run=run, cluster=cluster, job=token, exit_code=exit_code, slurm=state)
    if name == "train" or exit_code != DONE:
        decisions.record(run, token, name, decision, queue.own_nodes())
    log.info(f"{name}: {decision.reason}{', requeued' if decision.requeue else ''}")
    if decision.requeue:
        queue.requeue(job_id, decision.reason)
        if name == "train" and decision.reason.startswith((decisions.CRASH, decisions.HANG)):
            _exclude(run, queue, job_id, cluster().training.nodes)
        if name == "train":  # last: nothing of MLflow may keep a run from its requeue
            decisions.publish_wait(run, decision)
        # The requeue ends this shell: if it left before, the job would count as failed.
        signal.sigtimedwait({signal.SIGTERM}, _REQUEUE_TAKES)
    elif name == "train":
        decisions.publish_end(run, decision)
    return DONE if decision.reason == "done" else FAILED


def _cluster(run: Run) -> Cluster:
    from kit.config.cluster import Cluster
    from kit.config.section import read_resolved

    return read_resolved(run.cluster, Cluster)


def _exclude(run: Run, queue: scheduler.Scheduler, job_id: str, needed: int) -> None:
    """Exclude nodes on which the run failed twice, if it can do without them."""
    failures: Counter[str] = Counter()
    for row in decisions.read(run):
        if row["name"] == "train" and row["reason"].startswith((decisions.CRASH, decisions.HANG)):
            failures.update(row.get("nodes", ()))
    try:
        excluded = queue.exclude(job_id, failures, needed)
    except ClusterError as error:  # the run continues, possibly on a node that fails again
        log.warning(f"requeue: no node excluded ({error})")
        return
    for node in excluded:
        failed = quantities.count(failures[node], "failure")
        log.warning(f"train: {node} excluded, {failed} of this run")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
