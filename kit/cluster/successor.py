"""The successor of a job that Slurm refuses to requeue: the same script again, as a new job.

It starts when the old job has ended. The record of the submission has its id from then on, and the jobs
that waited for the old one wait for it. A start of a job has one successor at most. Elements of an array
have none: those that wait for an array wait for all of its elements, which a new job is not one of.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from kit.cluster import state
from kit.errors import ClusterError
from kit.output import log
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.store.paths import Run

_DEPENDENCY = re.compile(r"^#SBATCH --dependency=.*\n", re.MULTILINE)
# Of the job that submits: its size, its number of restarts, its arguments of sbatch, its tasks.
_OF_THIS_JOB = ("SLURM", "SBATCH_", "SUBMITIT_", "EKIDEN_", "SRUN_")


def submit(run: Run, name: str, job: str, token: str) -> str:
    """Submit the successor of the job `job` whose start `token` ends; returns its id.

    Raises ClusterError if there can be none, or sbatch refuses it.
    """
    if "_" in job:
        raise ClusterError("an element of an array has no successor; submit the stage again")
    if not run.successor(name, token).is_file():
        _claim(run, name, token)
        script = _script(run, name, job)
        new = _sbatch(script, [f"--dependency=afterany:{job}", *_as_it_is(job)])
        try:
            run.successor(name, token).write_text(new, encoding="utf-8")
            _take_over(run, name, job, new)
        except OSError as error:  # a full disk may have ended the job, whose successor is submitted
            log.warning(f"requeue: job {new} is not on record ({error.strerror})")
        _follow(run, job, new)
        return new
    new = run.successor(name, token).read_text(encoding="utf-8")
    if not new:
        raise ClusterError("a successor of this start was tried before")
    return new


def _claim(run: Run, name: str, token: str) -> None:
    try:
        run.successor(name, token).touch(exist_ok=False)
    except FileExistsError:
        raise ClusterError("another process submits the successor of this start") from None
    except OSError as error:
        raise ClusterError(f"{run.successor(name, token)}: {error.strerror}") from None


def _as_it_is(job: str) -> list[str]:
    """What may have been changed of a job since its submission, as options of sbatch."""
    try:
        fields = state.fields(job)
    except ClusterError:
        return []
    now = {
        "partition": fields.get("Partition"),
        "time": fields.get("TimeLimit"),
        "exclude": fields.get("ExcNodeList"),
    }
    return [f"--{key}={value}" for key, value in now.items() if value not in (None, "(null)")]


def _script(run: Run, name: str, job: str) -> str:
    """The script of a job, without the job that it waited for."""
    path = run.job_logs(name) / f"{job}_submission.sh"
    try:
        return _DEPENDENCY.sub("", path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterError(f"{path}: {error.strerror}") from None


def _sbatch(script: str, options: Sequence[str]) -> str:
    """Submit a script; returns the id of the job."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OF_THIS_JOB)}
    if "SLURM_CONF" in os.environ:
        environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
    command = ("sbatch", "--parsable", *options)
    return state.slurm(*command, script=script, environment=environment).strip().split(";")[0]


def _take_over(run: Run, name: str, job: str, new: str) -> None:
    """Put the new id into the record of the submission, and copy the files named by the old one."""
    submission = read_json(run.jobs)
    submission["slurm"][name] = new
    write_json(run.jobs, submission)
    for path in run.job_logs(name).glob(f"{job}_*"):
        rest = path.name.removeprefix(f"{job}_")
        if rest in ("submission.sh", "tasks.json") or rest.endswith("submitted.pkl"):
            shutil.copyfile(path, path.with_name(f"{new}_{rest}"))


def _follow(run: Run, job: str, new: str) -> None:
    """Let the jobs that wait for one wait for its successor; where Slurm refuses, submit them again."""
    try:
        for waiting in _waiting_for(job):
            state.slurm("scontrol", "update", f"jobid={waiting}", f"dependency=afterok:{new}")
    except ClusterError as error:
        log.warning(f"requeue: the jobs behind cannot wait for job {new} ({error})")
        _submit_again(run, job, new)


def _waiting_for(job: str) -> list[str]:
    """The ids of the user's jobs that depend on a job."""
    lines = state.slurm(
        "squeue", "--noheader", f"--user={os.getuid()}", "--states=PENDING", "--format=%F|%E"
    ).splitlines()
    found = [line.split("|", 1) for line in lines if re.search(rf"afterok:{job}\b", line)]
    return [*dict.fromkeys(waiting for waiting, _ in found)]


def _submit_again(run: Run, job: str, new: str) -> None:
    """Submit the jobs behind again; the first ones end with the job that they wait for."""
    ids: dict[str, str] = read_json(run.jobs).get("slurm", {})
    behind = {int(i): name for name, i in ids.items() if int(job) < int(i) and i != new}
    before = new
    for number, name in sorted(behind.items()):
        try:
            script = _script(run, name, str(number))
            before = _sbatch(script, [f"--dependency=afterok:{before}"])
            _take_over(run, name, str(number), before)
        except (ClusterError, OSError) as error:
            log.warning(f"requeue: {name} is not submitted again ({error})")
            return
        log.info(f"{name}: job {before} submitted in place of job {number}")
