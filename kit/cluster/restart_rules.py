"""The rules by which a job that has ended starts again, or does not.

    restart_rules.decide_training(run, cluster, token, exit_code, state)

For the training job the evidence is in its attempt: `end.json` has its outcome; without that file the
attempt crashed, or hung if there is a `hang.json`. A SIGTERM without preemption and without a time limit
near is the user's scancel, never requeued, unless it was meant for an earlier start
(kit/cluster/evidence.py). Nor is a start requeued that Slurm took for lost, if it ends while a newer one
runs or waits. On Slurm the exit trap decides (kit/cluster/requeue.py), else the supervisor.

The exit trap must be quick and imports this module: slow imports, such as pydantic, are made only if a
decision depends on them, after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kit.cluster import decisions, evidence, limit_budget
from kit.cluster.decisions import Decision
from kit.errors import DONE as SUCCESS
from kit.output import quantities
from kit.store import records
from kit.store.job_tokens import job_of, restarts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kit.cluster.decisions import RequeueRecord
    from kit.cluster.oom_killer import OomKill
    from kit.cluster.state import JobState
    from kit.config.cluster import Cluster
    from kit.store.paths import Run

Resources = Literal["network", "arrays", "single"]

_RESUMABLE = (
    "download",
    "fingerprint",
    "deduplicate",
    "signatures",
    "bands",
    "preprocess",
    "count",
    "candidates",
    "tokenize",
)
_LIMIT_NEAR = 120  # seconds: SIGTERM comes at the limit, USR2 as a warning up to 90 s before


def decide_training(
    run: Run, cluster: Callable[[], Cluster], job: str, exit_code: int, slurm: JobState
) -> Decision:
    """Decide on the training job; `job` is the token of the start that has just ended.

    `cluster` is called only if the decision depends on it.
    """
    if failure := decisions.mistake(run, "train", job):
        return Decision(False, failure)
    own = decisions.end(run, job)
    outcome = own["outcome"] if own is not None else None
    if outcome == "done":
        return Decision(False, decisions.DONE)
    if outcome == "superseded":
        return Decision(False, decisions.SUPERSEDED)
    if own is not None and outcome in ("stopped", "failed"):
        return Decision(False, f"{outcome}: {own['reason']}")
    if own is not None and own["reason"] == records.BY_USER:
        return Decision(False, decisions.CANCELLED)
    if ended := _ended_by_slurm(job, slurm):
        return _at_limit(run, cluster, job) if ended.reason == limit_budget.REASON else ended
    if slurm.preempted:
        return Decision(True, decisions.PREEMPTION)
    if own is None and (unfit := evidence.unfit(run, job)):
        return _after_preflight(run, cluster, job, unfit)
    hang = _hang(run, job) if own is None else None
    near = slurm.seconds_left is not None and slurm.seconds_left < _LIMIT_NEAR
    if (near and hang is None) or (own is not None and own["reason"] == limit_budget.REASON):
        return _at_limit(run, cluster, job)
    if own is not None and own["reason"] == records.WARNED:
        return Decision(True, own["reason"])
    if own is not None:
        return _after_sigterm(run, cluster, job, slurm)
    oom = evidence.oom_kill(run, "train", job, slurm) if hang is None else None
    return _after_crash(run, cluster, job, exit_code, hang, oom)


def _after_crash(
    run: Run,
    cluster: Callable[[], Cluster],
    job: str,
    exit_code: int,
    hang: str | None,
    oom: OomKill | None,
) -> Decision:
    """The decision on an attempt that left no end; `hang` is the one for which it ended itself."""
    if oom is not None and oom.certain and not evidence.has_fitted(run):
        return Decision(False, evidence.does_not_fit(run, oom, _more_memory(cluster(), "training")))
    failures = _failures_without_progress(run, job)
    if failures <= cluster().training.failures:
        why = oom.how if oom else f"exit code {exit_code}"
        return Decision(True, hang or f"{decisions.CRASH} ({why})")
    how = f"{oom.who} {oom.text}" if oom else f"exit code {exit_code}"
    text = f"{quantities.count(failures, 'time')} without a new checkpoint ({how})"
    more = f"; lower training.micro_batch, {_more_memory(cluster(), 'training')}" if oom else ""
    return Decision(False, f"{hang or decisions.CRASH}, {text}{more}")


def _after_sigterm(run: Run, cluster: Callable[[], Cluster], job: str, slurm: JobState) -> Decision:
    """The decision after a SIGTERM that no preemption and no time limit explains."""
    if not evidence.is_stray(restarts_of(job), slurm):
        return Decision(False, decisions.CANCELLED)
    times = 1 + sum(row["reason"] == decisions.STRAY for row in _since_progress(run, job))
    if times > cluster().training.failures:
        text = f"{quantities.count(times, 'time')} without a new checkpoint"
        return Decision(False, f"{decisions.STRAY}, {text}")
    return Decision(True, decisions.STRAY)


def _after_preflight(
    run: Run, cluster: Callable[[], Cluster], job: str, unfit: Mapping[str, str]
) -> Decision:
    """Requeue, as other nodes may do; a node named again could not be left out, and that is a failure."""
    reason = f"{decisions.PREFLIGHT} ({'; '.join(f'{node}: {why}' for node, why in sorted(unfit.items()))})"
    again = [row for row in _since_progress(run, job) if {*unfit} & {*row.get("unfit", ())}]
    failures = len(again) + _failures_without_progress(run, job) - 1
    if failures > cluster().training.failures:
        text = f"{reason}, {quantities.count(failures, 'time')} without another node"
        return Decision(False, text, tuple(unfit))
    return Decision(True, reason, tuple(unfit))


def decide_task(
    run: Run,
    cluster: Callable[[], Cluster],
    name: str,
    job: str,
    exit_code: int,
    slurm: JobState,
    resources: Resources = "arrays",
) -> Decision:
    """Decide on a task of an array job; `resources` is the cluster's section with its retries."""
    if exit_code == SUCCESS:
        return Decision(False, decisions.DONE)
    if failure := decisions.mistake(run, name):
        return Decision(False, failure)
    ended = _ended_by_slurm(job, slurm)
    # A task of many units makes progress by the time limit; a job of one would restart forever.
    at_limit = ended is not None and ended.reason == limit_budget.REASON
    if at_limit and name in _RESUMABLE:
        return _task_at_limit(run, cluster, name, job, resources)
    if ended is not None and not at_limit:
        return ended
    if slurm.preempted:
        return Decision(True, decisions.PREEMPTION)
    jobs = _predecessors(run, job)
    failures = 1 + sum(
        row["reason"].startswith(decisions.FAILURE) and job_of(row["job"]) in jobs
        for row in decisions.read(run)
    )
    oom = evidence.oom_kill(run, name, job, slurm)
    limit = f", {limit_budget.REASON}" if at_limit else ""
    if failures <= cluster().resources_of(resources).retries:
        why = oom.how if oom else f"exit code {exit_code}"
        return Decision(True, f"{decisions.FAILURE} ({why}{limit})")
    how = oom.text if oom else f"exit code {exit_code}"
    more = f"; {_raise_limit(cluster(), resources)}" if at_limit else ""
    more += f"; {_more_memory(cluster(), resources)}" if oom else ""
    times = quantities.count(failures, "time")
    return Decision(False, f"{decisions.FAILURE} {times} ({how}{limit}){more}")


def _at_limit(run: Run, cluster: Callable[[], Cluster], job: str) -> Decision:
    """The decision on the training job after a time limit."""
    times = limit_budget.fruitless(
        decisions.read(run), decisions.progress(run), _predecessors(run, job)
    )
    if times < limit_budget.STARTS:
        return Decision(True, limit_budget.REASON)
    return Decision(False, limit_budget.remedy(cluster().training, times))


def _task_at_limit(
    run: Run, cluster: Callable[[], Cluster], name: str, job: str, resources: Resources
) -> Decision:
    """The decision on a task of many units after a time limit: it must get on."""
    if limit_budget.finished_a_unit(run, name, job):
        return Decision(True, limit_budget.REASON)
    jobs, times = _predecessors(run, job), 1
    for row in decisions.read(run):
        if row["name"] == name and job_of(row["job"]) in jobs:
            times = times + 1 if row["reason"] == limit_budget.NO_UNIT else 1
    if times < limit_budget.STARTS:
        return Decision(True, limit_budget.NO_UNIT)
    return Decision(
        False, f"{limit_budget.NO_UNIT}, {times} times; {_raise_limit(cluster(), resources)}"
    )


def _raise_limit(cluster: Cluster, resources: Resources) -> str:
    """The key with the time limit of a task, and a value to try."""
    minutes = cluster.resources_of(resources).minutes
    return (
        f"raise cluster.{_section(cluster, resources)}.minutes={minutes} to {2 * minutes} or more"
    )


def _more_memory(cluster: Cluster, resources: Resources | Literal["training"]) -> str:
    """What gives a process more memory."""
    if not cluster.is_this_machine:
        text = f"raise cluster.{_section(cluster, resources)}.memory_gb"
        return f"{text}, or use fewer ranks on a node" if resources == "training" else text
    if resources == "training":
        return "use fewer ranks, or give them more memory"
    return f"lower cluster.arrays.parallel={cluster.arrays.parallel}, or give tasks more memory"


def _section(cluster: Cluster, resources: Resources | Literal["training"]) -> str:
    """The section of the cluster file that these resources come from."""
    return "arrays" if resources == "network" and cluster.network is None else resources


def _ended_by_slurm(job: str, slurm: JobState) -> Decision | None:
    """The decision if the job did not leave on its own, else None."""
    # Before the job's state: that may be of a newer start, running on another node.
    if slurm.restarts > restarts_of(job):
        return Decision(False, decisions.BY_SLURM)
    if slurm.state == "RUNNING":
        return None
    if slurm.preempted:  # Slurm ended it after the grace time, or at once
        return Decision(True, decisions.PREEMPTION)
    if slurm.reason == "TimeLimit":
        return Decision(True, limit_budget.REASON)
    return Decision(False, decisions.CANCELLED)


def _predecessors(run: Run, job: str) -> set[str]:
    """The id of a job, and those of the jobs that it is a successor of."""
    jobs = {job_of(job)}
    for row in reversed(decisions.read(run)):
        if row.get("successor") in jobs:
            jobs.add(job_of(row["job"]))
    return jobs


def _hang(run: Run, job: str) -> str | None:
    """The hang for which the attempt with that token ended itself, as a reason; or None."""
    what = evidence.hang(run, job)
    return f"{decisions.HANG} ({what})" if what is not None else None


def _failures_without_progress(run: Run, job: str) -> int:
    """The number of failures since the newest checkpoint, including the present one."""
    rows = _since_progress(run, job)
    return 1 + sum(row["reason"].startswith((decisions.CRASH, decisions.HANG)) for row in rows)


def _since_progress(run: Run, job: str) -> list[RequeueRecord]:
    """The decisions on earlier starts of the training job since the newest checkpoint."""
    progress = decisions.progress(run)
    jobs = _predecessors(run, job)
    return [
        row
        for row in decisions.read(run)
        if row["name"] == "train" and job_of(row["job"]) in jobs and row["progress"] >= progress
    ]
