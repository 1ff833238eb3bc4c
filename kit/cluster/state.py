"""State of Slurm's jobs and partitions: squeue and scontrol, run and parsed.

queue(["17", "18"], users=[1000])      # one call, which reads the jobs of these users only
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from kit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from kit.cluster.oom_killer import OomKill

PATIENCE = 60.0  # seconds: slurmctld may be restarting
SHORT = 5.0  # the same for whoever only looks
_SILENT = "Unable to contact"  # of every command, if slurmctld or slurmdbd is down
_UNKNOWN_JOB = "Invalid job id"  # of squeue, if Slurm has forgotten the only job asked for
ENDED_BADLY = {
    "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "CANCELLED", "PREEMPTED",
}  # fmt: skip
# squeue's states (22.05 to 24.11) of a job that runs, or can again, if only once it is released.
_ALIVE = {
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "STOPPED", "REQUEUE_FED",
    "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT",
}  # fmt: skip


@dataclass(frozen=True)
class JobState:
    """State of a job that decides on its requeue, as seen from its own batch shell.

    Observed on Slurm 22.05: RUNNING if the job left on its own, under preemption too; COMPLETING after
    scancel, at the end of a grace time, at the time limit, and after a requeue by someone else.
    """

    state: str
    reason: str = "None"  # TimeLimit once the limit is reached
    preempted: bool = False  # a preemption has begun, and no scancel came within its grace time
    restarts: int = 0  # one more than in the job's environment: Slurm is already requeueing it
    seconds_left: float | None = None  # to the time limit, or to the end of the grace time
    seconds_run: float | None = None  # since this start
    oom: OomKill | None = None  # on a machine without Slurm, whose own words are in its logs


@dataclass(frozen=True)
class Element:
    """A job, or an element of an array, as squeue shows it; for MinJobAge (300 s) after its end too."""

    job: str  # as in the names of its logs: ID, or ARRAY_INDEX
    state: str  # PENDING, RUNNING, FAILED, CANCELLED ...
    reason: str  # Slurm's word for why it waits or ended: Resources, DependencyNeverSatisfied ...
    submitted: float | None  # Unix times
    started: float | None
    ended: float | None  # before its end: the end of its time limit
    indices: str = ""  # of the elements of an array that are pending, in Slurm's notation: 0,3-5%2

    @property
    def alive(self) -> bool:
        """Whether it is queued or running."""
        return self.state in _ALIVE

    def holds(self, index: int) -> bool:
        """Whether an element of the array is among those that are pending; so if the list was cut off."""
        if "..." in self.indices:
            return True
        spans = [span.split("-") for span in self.indices.partition("%")[0].split(",")]
        return any(int(span[0]) <= index <= int(span[-1]) for span in spans if span[0].isdecimal())

    @property
    def never_starts(self) -> bool:
        """Whether it waits for a job that failed, where Slurm does not cancel it for that."""
        return self.state == "PENDING" and self.reason == "DependencyNeverSatisfied"


@dataclass
class Silence:
    """Why Slurm is not asked again in a block of `short_patience`; None while it answers."""

    reason: str | None = None


_silence: ContextVar[Silence | None] = ContextVar("silence", default=None)


@contextmanager
def short_patience() -> Iterator[Silence]:
    """Wait at most SHORT in the block, and ask nothing more of a Slurm that has not answered once."""
    silence = Silence()
    token = _silence.set(silence)
    try:
        yield silence
    finally:
        _silence.reset(token)


def slurm(
    *command: str,
    patience: float = PATIENCE,
    script: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a Slurm command and return its output; sbatch reads the `script`.

    `environment` replaces that of this process. Raises ClusterError if the command is missing, fails, or
    takes more than `patience` seconds.
    """
    silence = _silence.get()
    if silence is None:
        return _answer(command, patience, script, environment)
    if silence.reason is not None:
        raise ClusterError(silence.reason)
    try:
        return _answer(command, min(patience, SHORT), script, environment)
    except _NoAnswerError as error:
        silence.reason = str(error)
        raise


class _NoAnswerError(ClusterError):
    """Slurm is not there, or busy."""


def _answer(
    command: Sequence[str],
    patience: float,
    script: str | None,
    environment: Mapping[str, str] | None,
) -> str:
    if shutil.which(command[0]) is None:
        raise ClusterError(
            f"{command[0]}: not on the PATH; is this a login node of a Slurm cluster?"
        )
    try:
        done = subprocess.run(
            command,
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=patience,
            # A user may have set another format.
            env=environment or os.environ | {"SLURM_TIME_FORMAT": "standard"},
        )
    except subprocess.TimeoutExpired:
        raise _NoAnswerError(
            f"{command[0]}: no answer in {patience:g} s; is slurmctld running?"
        ) from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        words = [word for word in command[:2] if not word.startswith("-")]
        text = f"{' '.join(words)}: {reason[-1] if reason else done.returncode}"
        raise _NoAnswerError(text) if _SILENT in text else ClusterError(text)
    return done.stdout


def answers() -> None:
    """Raise ClusterError unless Slurm answers; it is asked for nobody else's jobs."""
    slurm("squeue", "--noheader", f"--user={os.getuid()}", "--format=%A")


def queue(
    ids: Sequence[str], users: Collection[int] = (), patience: float = PATIENCE
) -> dict[str, list[Element]]:
    """Everything squeue knows about the jobs, by id; jobs that it has forgotten are left out.

    slurmctld sends all jobs of the cluster unless it is given the `users` (uids) that the jobs belong to.
    Raises ClusterError without Slurm.
    """
    if not ids:
        return {}
    limits = [f"--jobs={','.join(ids)}"]
    limits += [f"--user={','.join(map(str, sorted(users)))}"] if users else []
    columns = "--format=%A|%F|%K|%T|%V|%S|%e|%r"
    try:
        output = slurm("squeue", "--noheader", "--states=all", *limits, columns, patience=patience)
    except ClusterError as error:
        if _UNKNOWN_JOB not in str(error):
            raise
        if len(ids) == 1:
            return {}
        return {job: found for one in ids for job, found in queue([one], users, patience).items()}
    return _elements(output, ids)


def _elements(output: str, ids: Collection[str]) -> dict[str, list[Element]]:
    elements: dict[str, list[Element]] = {}
    for line in output.splitlines():
        job, array, index, status, *times, reason = line.split("|", 7)
        if array in ids:
            name = f"{array}_{index}" if index.isdecimal() else job
            submitted, started, ended = map(unix, times)
            pending = "" if index.isdecimal() else index
            element = Element(name, status, reason.strip(), submitted, started, ended, pending)
            elements.setdefault(array, []).append(element)
    return elements


def unix(time: str) -> float | None:
    """A time in Slurm's notation, in this machine's time zone; None for N/A."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return None


def own_id() -> str:
    """The id of the job that this shell belongs to; in an array, of its element alone."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:  # the last element has the id of the whole array, and would requeue all of it
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def of_fields(values: Mapping[str, str], *, preempted: bool) -> JobState:
    """The state of a job by the fields of `scontrol show job`."""
    begin, end = (unix(values.get(name, "Unknown")) for name in ("StartTime", "EndTime"))
    return JobState(
        values["JobState"],
        values.get("Reason", "None"),
        preempted,
        int(values.get("Restarts", "0")),
        None if end is None else end - time.time(),
        None if begin is None else time.time() - begin,
    )


def fields(job_id: str) -> dict[str, str]:
    """The fields of `scontrol show job`. Raises ClusterError if Slurm does not know the job."""
    return dict(re.findall(r"(\S+?)=(\S*)", slurm("scontrol", "show", "job", "-o", job_id)))


def configuration() -> dict[str, str]:
    """The settings that `scontrol show config` prints, by key. Raises ClusterError without Slurm."""
    output = slurm("scontrol", "show", "config")
    return dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", output, re.MULTILINE))


def partitions() -> dict[str, dict[str, str]]:
    """The fields of `scontrol show partition`, by name. Raises ClusterError without Slurm."""
    output = slurm("scontrol", "--all", "--oneliner", "show", "partition")
    rows = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in output.splitlines()]
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def minutes(limit: str) -> float:
    """A time limit as Slurm prints it, DAYS-HH:MM:SS, in minutes; infinite for UNLIMITED and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if match is None:
        return math.inf
    days, hours, rest, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + rest + seconds / 60
