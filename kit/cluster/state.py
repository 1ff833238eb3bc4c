"""What Slurm says of jobs: squeue and scontrol, asked and parsed."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime

from kit.errors import ClusterError

_PATIENCE = 60  # seconds: slurmctld may be restarting
_ALIVE = {"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "STOPPED"}


@dataclass(frozen=True)
class JobState:
    """What decides over a requeue, seen from the job's own batch shell.

    Observed on Slurm 22.05: RUNNING while the job left on its own, under preemption too; COMPLETING
    after scancel, at the end of a grace time, at the time limit and after a requeue by another hand.
    """

    state: str
    reason: str = "None"  # TimeLimit when the limit was reached
    preempted: bool = False  # a preemption has begun
    restarts: int = 0  # one more than the job knows of: Slurm is requeueing it already
    seconds_left: float | None = None  # to the time limit, or to the end of the grace time


@dataclass(frozen=True)
class Element:
    """A job, or an element of an array, as squeue shows it; ended ones for MinJobAge, 300 s by default."""

    job: str  # as its logs are named: ID, or ARRAY_INDEX
    state: str  # PENDING, RUNNING, FAILED, CANCELLED ...
    reason: str  # Slurm's word for why it waits or ended: Resources, DependencyNeverSatisfied ...
    submitted: float | None  # Unix times
    started: float | None
    ended: float | None  # of one that has not: where its time limit ends

    @property
    def alive(self) -> bool:
        """Whether it is still to run, or running."""
        return self.state in _ALIVE


def slurm(*command: str) -> str:
    """The output of a command of Slurm's. Raises ClusterError where it is missing or fails."""
    if shutil.which(command[0]) is None:
        raise ClusterError(
            f"{command[0]}: not on the PATH; is this a login node of a Slurm cluster?"
        )
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            env=os.environ | {"SLURM_TIME_FORMAT": "standard"},  # a user may have set another
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{command[0]}: no answer in {_PATIENCE} s; is slurmctld running?"
        ) from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(f"{' '.join(command[:2])}: {reason[-1] if reason else done.returncode}")
    return done.stdout


def live(ids: list[str]) -> dict[str, str]:
    """Which of the jobs are still to run or running, by id. Raises ClusterError without Slurm."""
    queued = slurm("squeue", "--noheader", "--states=all", "--format=%A %F %T")
    found = {}
    for line in queued.splitlines():
        job, array, status = line.split()
        for known in (job, array):
            if known in ids and status in _ALIVE:
                found[known] = status
    return found


def queue(ids: list[str]) -> dict[str, list[Element]]:
    """All that squeue knows of the jobs, by id. Raises ClusterError without Slurm."""
    shown = slurm("squeue", "--noheader", "--states=all", "--format=%A|%F|%K|%T|%V|%S|%e|%r")
    found: dict[str, list[Element]] = {}
    for line in shown.splitlines():
        job, array, index, status, *times, reason = line.split("|", 7)
        if array in ids:
            name = f"{array}_{index}" if index.isdecimal() else job
            element = Element(name, status, reason.strip(), *map(_unix, times))
            found.setdefault(array, []).append(element)
    return found


def _unix(time: str) -> float | None:
    """A time as Slurm writes it, which is that of this machine; None for N/A."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return None


def own_id() -> str:
    """The id of the job this shell belongs to; in an array, that of its element alone."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:  # the last element has the id of the whole array, and would requeue all of it
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def job(job_id: str) -> JobState:
    """The state of one job. Raises ClusterError where Slurm does not know it."""
    found = fields(job_id)
    end = found.get("EndTime", "Unknown")
    left = None
    if end not in ("Unknown", "None"):
        left = (datetime.fromisoformat(end) - datetime.now()).total_seconds()  # noqa: DTZ005  Slurm's own
    return JobState(
        found["JobState"],
        found.get("Reason", "None"),
        found.get("PreemptTime", "None") not in ("None", "Unknown"),
        int(found.get("Restarts", "0")),
        left,
    )


def fields(job_id: str) -> dict[str, str]:
    """What `scontrol show job` says of one job. Raises ClusterError where Slurm does not know it."""
    return dict(re.findall(r"(\S+?)=(\S*)", slurm("scontrol", "show", "job", "-o", job_id)))


def max_array_size() -> int | None:
    """The most tasks of an array that Slurm takes, as its configuration says; None if it does not say.

    Raises ClusterError without Slurm.
    """
    most = configuration().get("MaxArraySize", "")
    return max(1, int(most)) if most.isdecimal() else None  # 0: no arrays; one task is none


def configuration() -> dict[str, str]:
    """What `scontrol show config` says, by key. Raises ClusterError without Slurm."""
    shown = slurm("scontrol", "show", "config")
    return dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", shown, re.MULTILINE))


def partitions() -> dict[str, dict[str, str]]:
    """What `scontrol show partition` says of each, by name. Raises ClusterError without Slurm."""
    shown = slurm("scontrol", "--all", "--oneliner", "show", "partition")
    rows = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown.splitlines()]
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def minutes(limit: str) -> float:
    """A time limit as Slurm prints it, DAYS-HH:MM:SS, in minutes; UNLIMITED and the like are infinite."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if found is None:
        return math.inf
    days, hours, rest, seconds = (int(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + rest + seconds / 60
