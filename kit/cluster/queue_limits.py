"""The limits on jobs in the queue that Slurm tells before a submission, for `arrays.within`.

MaxArraySize and MaxJobCount come from `scontrol show config`; MaxSubmitJobs of the user's association and
of the QOS come from sacctmgr, asked only if the site enforces limits. Others show when sbatch refuses.
"""

from __future__ import annotations

import getpass
import os
from collections import Counter
from typing import TYPE_CHECKING

from kit.cluster import state
from kit.cluster.arrays import Limit
from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster

_ASSOCIATION = ("Account", "Partition", "DefaultQOS", "MaxSubmitJobs", "GrpSubmitJobs")
_QOS = ("Name", "MaxSubmitJobsPerUser", "MaxSubmitJobsPerAccount", "GrpSubmitJobs")
_DEFAULT_QOS = "normal"


def of(cluster: Cluster, jobs: Sequence[Job]) -> list[Limit]:
    """The limits that concern these jobs; none if Slurm does not answer."""
    try:
        settings = state.configuration()
    except ClusterError:  # reported elsewhere, if Slurm is needed
        return []
    limits = [*_of_settings(settings, jobs)]
    if "limits" in settings.get("AccountingStorageEnforce", "").lower():
        limits += _of_accounting(settings, cluster, jobs)
    return limits


def _of_settings(settings: Mapping[str, str], jobs: Sequence[Job]) -> Iterator[Limit]:
    names = frozenset(job.name for job in jobs)
    if (size := settings.get("MaxArraySize", "")).isdecimal():
        # It bounds the index, from 0 on; 0 forbids arrays, and a single task needs none.
        yield Limit(f"MaxArraySize={size}", max(1, int(size)), names, together=False)
    if (count := settings.get("MaxJobCount", "")).isdecimal():
        yield Limit(f"MaxJobCount={count}", int(count) - 1, names, together=True)


def _of_accounting(
    settings: Mapping[str, str], cluster: Cluster, jobs: Sequence[Job]
) -> Iterator[Limit]:
    """Limits of associations and QOS; none if sacctmgr does not answer or the association is unclear."""
    user = getpass.getuser()
    where = ("where", f"user={user}", f"cluster={settings.get('ClusterName', '')}")
    try:
        associations = _table(_ASSOCIATION, "assoc", *where)
        qos = {row["Name"]: row for row in _table(_QOS, "qos")}
        queued = state.slurm("squeue", "--noheader", "--array", f"--user={user}", "--format=%a|%q")
    except ClusterError:
        return
    there = [line.split("|") for line in queued.splitlines()]
    places = {job.name: _place(cluster, job, associations) for job in jobs}
    for account in sorted({place[0] for place in places.values() if place[0]}):
        of_account = frozenset(name for name, place in places.items() if place[0] == account)
        rows = [row for row in associations if row["Account"] == account and not row["Partition"]]
        count = sum(one[0] == account for one in there)
        for row, key in ((row, key) for row in rows for key in _ASSOCIATION[3:]):
            yield from _limit(key, row[key], f"account {account}", of_account, count)
    counts = Counter(one[-1] for one in there)
    for name in sorted({place[1] for place in places.values()} & qos.keys()):
        of_qos = frozenset(job for job, place in places.items() if place[1] == name)
        for key in _QOS[1:]:
            yield from _limit(key, qos[name][key], f"QOS {name}", of_qos, counts[name])


def _limit(key: str, value: str, whose: str, jobs: frozenset[str], queued: int) -> Iterator[Limit]:
    if value.isdecimal():
        left = max(0, int(value) - queued)
        yield Limit(f"{key}={value} of {whose}", left, jobs, together=True, queued=queued)


def _place(
    cluster: Cluster, job: Job, associations: Sequence[Mapping[str, str]]
) -> tuple[str | None, str]:
    """The account and the QOS of a job; no account if it cannot be told."""
    options = {name.replace("_", "-"): v for name, v in cluster.sbatch_of(job.resources).items()}
    accounts = {row["Account"] for row in associations}
    account = options.get("account") or os.environ.get("SBATCH_ACCOUNT")
    if account is None and len(accounts) == 1:
        (account,) = accounts
    own = [row for row in associations if row["Account"] == account and not row["Partition"]]
    default = next((row["DefaultQOS"] for row in own if row["DefaultQOS"]), _DEFAULT_QOS)
    return account, options.get("qos") or os.environ.get("SBATCH_QOS") or default


def _table(columns: Sequence[str], *what: str) -> list[dict[str, str]]:
    """A table of sacctmgr."""
    output = state.slurm(
        *("sacctmgr", "--noheader", "--parsable2", "show", *what, f"format={','.join(columns)}")
    )
    return [
        dict(zip(columns, line.split("|"), strict=True)) for line in output.splitlines() if line
    ]
