"""The traps of the batch shell, which restart its job if the evidence calls for it.

    python -m kit.cluster.requeue RUN JOB EXIT_CODE     at its end, in place of the shell
    python -m kit.cluster.requeue RUN JOB TERM          when it gets SIGTERM, beside the ranks

The first runs when srun has ended, in any way, and decides by kit/cluster/restart_rules.py. The ranks never
requeue themselves: one of them may be dead. Under preemption it requeues at once: the node is free before
the grace time is over, and a job that left early without a requeue would count as failed. It takes the
place of the shell, which Slurm signals: the node is free as soon as the requeue is accepted.

The second is for jobs that Slurm ends and does not requeue itself: at their time limit, and at sites that
cancel preempted jobs (PreemptMode=CANCEL). Such a job is requeued while its ranks save, since shell and
ranks may be killed before they have left. In all other cases it does nothing.

Where Slurm refuses a requeue, a successor is submitted (kit/cluster/successor.py). Both must be quick: a
site may leave 5 seconds between TERM and KILL (KillWait), mostly used by the ranks.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kit.cluster import decisions, jobs, nodes, restart_rules, scheduler
from kit.errors import FAILED, ClusterError
from kit.output import log, quantities
from kit.store.files import read_json
from kit.store.job_tokens import restarts_of
from kit.store.paths import Run

if TYPE_CHECKING:
    from kit.cluster.decisions import Decision
    from kit.cluster.state import JobState
    from kit.config.cluster import Cluster

_TRAIN, _TERM = "train", "TERM"
_DONE, _BY_SIGTERM = 0, 128 + signal.SIGTERM  # exit codes
_REQUEUE_TAKES = 60  # seconds at most until Slurm ends the shell of a requeued job


def main(run_root: str, name: str, ended: str) -> int:
    """Do what one of the traps has to do; returns the exit code of the job."""
    # A requeue sends SIGTERM to this process too, which still has work to do.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(
        signal.SIGTERM, signal.SIG_DFL
    )  # the shell ignores it, and an ignored signal may get lost
    trap = _Trap(Run(Path(run_root)), name)
    return trap.terminated() if ended == _TERM else trap.ended(int(ended))


class _Trap:
    """The job that this process belongs to, in its present start."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name
        self._queue = scheduler.for_kind(read_json(run.cluster)["kind"])
        self._job, self._token = self._queue.own_id(), jobs.token()
        self._cluster = functools.cache(self._read_cluster)

    def terminated(self) -> int:
        """Restart the job if Slurm ends it, for a preemption or at its time limit."""
        try:
            state = self._queue.state(self._job)
        except ClusterError:  # what can be known without Slurm is not enough
            return _DONE
        if state.state != "RUNNING":
            decision = self._decide(_BY_SIGTERM, state)
            if decision.requeue:
                self._restart(decision)
        return _DONE

    def ended(self, exit_code: int) -> int:
        """Decide, restart the job if that is the decision, and record it."""
        before = decisions.restart(self._run, self._token)
        state = self._state(exit_code)
        decision = self._decide(exit_code, state)
        if before is not None:  # by the other trap
            self._take_back(before, decision)
        elif decision.requeue:
            requeued = self._restart(decision)
            if requeued and state.state == "RUNNING":
                # The requeue ends this process: if it left before, the job might count as failed.
                signal.sigtimedwait({signal.SIGTERM}, _REQUEUE_TAKES)
        else:
            self._end(decision, exit_code)
        return _DONE if decision.reason == decisions.DONE else exit_code or FAILED

    def _state(self, exit_code: int) -> JobState:
        try:
            return self._queue.state(self._job)
        except ClusterError as error:
            from kit.cluster import unasked

            log.warning(f"requeue: {error}; deciding by the signals and the clock")
            return unasked.state(self._run, self._name, self._token, exit_code)

    def _decide(self, exit_code: int, state: JobState) -> Decision:
        resources = os.environ.get(jobs.RESOURCES, "arrays")  # not set by an earlier version
        of_task = functools.partial(
            restart_rules.decide_task,
            name=self._name,
            resources=cast("restart_rules.Resources", resources),
        )
        decide = restart_rules.decide_training if self._name == _TRAIN else of_task
        return decide(
            run=self._run, cluster=self._cluster, job=self._token, exit_code=exit_code, slurm=state
        )

    def _restart(self, decision: Decision) -> bool:
        """Requeue the job, else submit its successor; returns whether it is requeued."""
        try:
            self._queue.requeue(self._job)
        except ClusterError as refusal:
            self._succeed(decision, refusal)
            return False
        self._queue.note(self._job, f"{decision.reason}, requeued")
        self._record(decision)
        log.info(f"{self._name}: {decision.reason}, requeued")
        self._after_restart(decision, self._job)
        return True

    def _succeed(self, decision: Decision, refusal: ClusterError) -> None:
        """Submit a successor of a job that Slurm refuses to requeue."""
        from kit.cluster import successor

        if self._requeued_by_slurm():  # at the same moment
            self._record(decisions.Decision(False, decisions.BY_SLURM))
            return
        try:
            new = successor.submit(self._run, self._name, self._job, self._token)
        except ClusterError as error:
            why = f"{decision.reason}; not requeued: {refusal}; no successor: {error}"
            self._end(decisions.Decision(False, why), FAILED)
            return
        self._record(decision, new)
        log.info(
            f"{self._name}: {decision.reason}; {refusal}; job {new} submitted as its successor"
        )
        self._after_restart(decision, new)

    def _requeued_by_slurm(self) -> bool:
        try:
            return self._queue.state(self._job).restarts > restarts_of(self._token)
        except ClusterError:
            return False

    def _after_restart(self, decision: Decision, job: str) -> None:
        if self._name != _TRAIN:
            return
        faults = (decisions.CRASH, decisions.HANG, decisions.PREFLIGHT)
        if decision.reason.startswith(faults):
            _exclude(self._run, self._queue, job, self._cluster().training.nodes)
        # Last: nothing of MLflow may keep a run from its requeue.
        decisions.publish_wait(self._run, decision)

    def _end(self, decision: Decision, exit_code: int) -> None:
        """Record that the job is not restarted."""
        if self._name == _TRAIN or exit_code != _DONE:
            self._record(decision)
        log.info(f"{self._name}: {decision.reason}")
        if restarts_of(self._token) and decisions.concerns_last_start(decision.reason):
            self._queue.note(self._job, decision.reason)  # in place of that of its last requeue
        if self._name == _TRAIN:
            decisions.publish_end(self._run, decision)

    def _take_back(self, before: decisions.RequeueRecord, decision: Decision) -> None:
        """Cancel the next start if the ranks, in the meantime, ended for good."""
        goes_on = (
            decision.requeue or decision.reason == decisions.DONE
        )  # as the next start will find
        if not goes_on and decisions.concerns_last_start(decision.reason):
            self._queue.cancel([before.get("successor", self._job)])
            self._end(decision, FAILED)

    def _record(self, decision: Decision, successor: str | None = None) -> None:
        decisions.record(
            self._run, self._token, self._name, decision, self._queue.own_nodes(), successor
        )

    def _read_cluster(self) -> Cluster:
        from kit.config.cluster import Cluster
        from kit.config.section import read_resolved

        return read_resolved(self._run.cluster, Cluster)


def _exclude(run: Run, queue: scheduler.Scheduler, job_id: str, needed: int) -> None:
    """Exclude nodes that failed twice, or that a check has named, if the run can do without them."""
    failures: Counter[str] = Counter()
    unfit: set[str] = set()
    for row in decisions.read(run):
        if row["name"] == _TRAIN and row["reason"].startswith((decisions.CRASH, decisions.HANG)):
            failures.update(row.get("nodes", ()))
        unfit |= {*row.get("unfit", ())}
    failures.update(dict.fromkeys(unfit, nodes.FAILURES))
    try:
        excluded = queue.exclude(job_id, failures, needed)
    except ClusterError as error:  # the run continues, possibly on a node that fails again
        log.warning(f"requeue: no node excluded ({error})")
        return
    for node in excluded:
        failed = quantities.count(failures[node], "failure")
        why = "unfit by a check" if node in unfit else f"{failed} of this run"
        log.warning(f"train: {node} excluded, {why}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3]))
