"""The traps of the batch shell on a real Slurm: who starts again, who does not, when the node is free.

The ranks are stand-ins (tests/slurm/stand_in.py); the script, its traps and Slurm are real.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from kit.cluster.snapshot import snapshot
from kit.store.files import read_json, write_json
from tests.relay import wait_until

from .stand_in import StandIn
from .trial import PATIENCE, WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Fields, Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

# Partitions whose jobs are cancelled by a preemption, without grace and with ten seconds.
DROPPED, SPARED = "dropped", "spared"


@pytest.fixture
def cancelling(slurm: Slurm) -> None:
    """The partitions of sites that preempt with PreemptMode=CANCEL."""
    known = slurm.run("sinfo", "--noheader", "--format=%R").split()
    for name, grace in ((DROPPED, "0"), (SPARED, slurm.environment["EKIDEN_SLURM_GRACE"])):
        if name not in known:  # a reconfiguration forgets them
            slurm.run(
                "scontrol", "create", f"PartitionName={name}", "Nodes=ALL", "PriorityTier=1",
                "PreemptMode=CANCEL", f"GraceTime={grace}",
            )  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left(slurm: Slurm) -> Iterator[None]:
    yield
    slurm.run("scancel", f"--user={os.geteuid()}")


def preempt(slurm: Slurm, seconds: int = 0) -> str:
    """Submit a job that needs all nodes and goes before the others; returns its id."""
    return slurm.submit(f"sleep {seconds}", "--partition=high", *WHOLE)


def preempted(job: Fields) -> bool:
    return job.get("PreemptTime", "None") != "None"


def restarted(job: Fields) -> bool:
    return job["Restarts"] == "1"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_node_is_free_long_before_killwait_once_a_preempted_job_is_requeued(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path)
    job = trial.submit()
    high = preempt(slurm)
    came = at(slurm.wait(high, "COMPLETED", PATIENCE)["StartTime"])
    slurm.wait(job, restarted)
    assert trial.reasons == [(True, "preemption")]
    left = at(slurm.run("sacct", "-DXnP", "-j", job, "-o", "End").splitlines()[0])
    killwait = int(slurm.environment["EKIDEN_SLURM_KILLWAIT"])
    assert (came - left).total_seconds() < killwait / 2
    slurm.start_now(job)
    assert slurm.wait(job, "COMPLETED", PATIENCE)["Comment"] == "ekiden: done"


@pytest.mark.parametrize("answer", ["leave", "stay"])
def test_a_job_that_a_preemption_cancels_at_once_is_requeued_even_if_its_ranks_are_killed(
    slurm: Slurm, cancelling: None, tmp_path: Path, answer: str
) -> None:
    trial = StandIn(slurm, tmp_path, training={"partition": DROPPED}, answer=answer)
    job = trial.submit()
    preempt(slurm)
    slurm.wait(job, restarted, PATIENCE)
    slurm.start_now(job)
    slurm.wait(job, "COMPLETED", PATIENCE)
    assert trial.reasons == [(True, "preemption"), (False, "done")]
    assert slurm.attempts(job) == ["REQUEUED", "COMPLETED"]


@pytest.mark.parametrize("partition", ["low", SPARED])
@pytest.mark.parametrize("answer", ["leave", pytest.param("stay", marks=pytest.mark.long)])
def test_a_scancel_within_the_grace_time_of_a_preemption_is_a_scancel(
    slurm: Slurm, cancelling: None, tmp_path: Path, partition: str, answer: str
) -> None:
    trial = StandIn(slurm, tmp_path, training={"partition": partition}, answer="stay")
    job = trial.submit()
    preempt(slurm)
    slurm.wait(job, preempted, PATIENCE)
    trial.say(answer)
    slurm.run("scancel", job)
    assert slurm.wait(job, "CANCELLED", PATIENCE)["Restarts"] == "0"
    if answer == "leave":  # else the shell is killed with its ranks
        assert trial.reasons == [(False, "cancelled")]
    assert not any(row["requeued"] for row in trial.rows)


@pytest.mark.long
def test_a_sigterm_that_slurm_meant_for_the_start_before_is_no_scancel(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path, answer="never")
    job = trial.submit()
    slurm.run("scontrol", "requeue", job)
    # As what a lost node is told once it is back, TERM goes to the ranks of a job that is to run.
    for times, told in ((1, ("--signal=TERM",)), (2, ())):
        slurm.wait(job, lambda found, times=times: int(found["Restarts"]) == times, PATIENCE)
        slurm.start_now(job)
        slurm.wait(job, "RUNNING", PATIENCE)
        wait_until(lambda: f"{job}.0" in slurm.run("squeue", "-hs", "-o%i"), "its step", PATIENCE)
        time.sleep(2.0)  # until its ranks hear signals
        slurm.run("scancel", *told, job)
    slurm.wait(job, "CANCELLED", PATIENCE)
    assert trial.reasons == [
        (False, "requeued by Slurm"), (True, "SIGTERM"), (False, "cancelled"),
    ]  # fmt: skip


@pytest.mark.long
def test_a_start_that_ends_for_good_after_its_requeue_takes_it_back(
    slurm: Slurm, cancelling: None, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path, training={"partition": DROPPED}, answer="stop")
    job = trial.submit()
    preempt(slurm)
    slurm.wait(job, "CANCELLED", PATIENCE)
    assert trial.reasons == [(True, "preemption"), (False, "stopped: STOP file")]


def test_tasks_of_an_array_that_a_preemption_cancels_are_requeued(
    slurm: Slurm, cancelling: None, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path, "preprocess", 2, arrays={"partition": DROPPED})
    job = trial.submit()
    wait_until(lambda: len(trial.started) == 2, "start of both tasks", PATIENCE)
    preempt(slurm)
    for task in (f"{job}_0", f"{job}_1"):
        slurm.wait(task, restarted, PATIENCE)
    wait_until(lambda: len(trial.rows) == 2, "record of both requeues, which follow them", PATIENCE)
    assert sorted((row["job"], row["requeued"], row["reason"]) for row in trial.rows) == [
        (f"{job}_0.0", True, "preemption"), (f"{job}_1.0", True, "preemption"),
    ]  # fmt: skip


def ended(job: Fields) -> bool:
    return job["JobState"] in ("FAILED", "PREEMPTED")


def behind(slurm: Slurm, trial: StandIn, job: str) -> str:
    """Submit the next job of the chain; returns its id."""
    more = (f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes")
    after = slurm.submit("true", *more)
    script = trial.run.job_logs("evaluate") / f"{after}_submission.sh"
    script.parent.mkdir()
    quiet = "#SBATCH --output=/dev/null"
    script.write_text(f"#!/bin/bash\n#SBATCH --dependency=afterok:{job}\n{quiet}\ntrue\n")
    submission = read_json(trial.run.jobs)
    write_json(trial.run.jobs, submission | {"slurm": {"train": job, "evaluate": after}})
    return after


def test_a_job_that_slurm_does_not_requeue_has_a_successor_that_the_chain_waits_for(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path)
    job = trial.submit()
    after = behind(slurm, trial, job)
    slurm.run("scontrol", "update", f"jobid={job}", "requeue=0", "timelimit=50")
    preempt(slurm)
    slurm.wait(job, ended, PATIENCE)
    ids = read_json(trial.run.jobs)["slurm"]
    new = ids["train"]
    assert ids == {"train": new, "evaluate": after}
    slurm.wait(new, "COMPLETED", PATIENCE)
    slurm.wait(after, "COMPLETED", PATIENCE)
    assert slurm.job(new)["TimeLimit"] == "00:50:00"
    assert trial.reasons == [(True, "preemption"), (False, "done")]
    assert [row["job"] for row in trial.rows] == [f"{job}.0", f"{new}.0"]
    assert trial.rows[0].get("successor") == new
    assert f"job {new} submitted as its successor" in trial.log
    assert snapshot(trial.run).verdict is None


def test_tasks_of_an_array_that_slurm_does_not_requeue_say_so(slurm: Slurm, tmp_path: Path) -> None:
    trial = StandIn(slurm, tmp_path, "preprocess", 2)
    job = trial.submit()
    wait_until(lambda: len(trial.started) == 2, "start of both tasks", PATIENCE)
    slurm.run("scontrol", "update", f"jobid={job}", "requeue=0")
    preempt(slurm)
    for task in (f"{job}_0", f"{job}_1"):
        slurm.wait(task, ended, PATIENCE)
    for requeued, reason in trial.reasons:
        assert not requeued
        # Slurm may put the element's id before its words.
        assert re.fullmatch(
            r"preemption; not requeued: scontrol requeue: (\d+_[01]: )?Requested operation is [^;]*; "
            r"no successor: an element of an array has no successor; submit the stage again",
            reason,
        )
    assert len(trial.reasons) == 2


@pytest.mark.long
def test_a_site_that_refuses_the_requeue_of_each_start_has_a_successor_for_each(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path, training={"failures": 2}, answer="fail")
    scontrol = shutil.which("scontrol")
    denied = 'echo "Access/permission denied" >&2; exit 1'
    trial.program(
        "scontrol", f'#!/bin/bash\n[[ $1 == requeue ]] && {{ {denied}; }}\nexec {scontrol} "$@"\n'
    )
    job = trial.submit()
    after = behind(slurm, trial, job)
    wait_until(lambda: len(trial.rows) == 3, "end of the budget", PATIENCE)
    assert [row["requeued"] for row in trial.rows] == [True, True, False]
    jobs = [row["job"] for row in trial.rows]
    assert len({*jobs}) == 3
    assert jobs[2] == f"{read_json(trial.run.jobs)['slurm']['train']}.0"
    assert trial.rows[2]["reason"] == "crash, 3 times without a new checkpoint (exit code 3)"
    slurm.wait(after, "CANCELLED", PATIENCE)


@pytest.mark.long
def test_a_job_that_may_neither_be_requeued_nor_submitted_again_says_so(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = without_slurm(slurm, tmp_path)
    job = trial.submit()
    preempt(slurm)
    slurm.wait(job, ended, PATIENCE)
    ((requeued, reason),) = trial.reasons
    assert not requeued
    assert reason.startswith("preemption; not requeued: scontrol: not on the PATH")
    assert "no successor: sbatch: not on the PATH" in reason
    assert snapshot(trial.run).verdict == reason


@pytest.mark.long
def test_without_slurms_commands_a_scancel_is_a_scancel(slurm: Slurm, tmp_path: Path) -> None:
    trial = without_slurm(slurm, tmp_path, "sbatch")
    job = trial.submit()
    slurm.run("scancel", job)
    slurm.wait(job, "CANCELLED", PATIENCE)
    assert trial.reasons == [(False, "cancelled")]


@pytest.mark.long
def test_a_limit_shorter_than_the_start_ends_with_the_key_to_raise(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path, training={"minutes": 1, "warning_seconds": 30}, answer="never")
    job = trial.submit()
    for times in (1, 2):
        slurm.wait(job, lambda found, times=times: int(found["Restarts"]) == times, PATIENCE)
        slurm.start_now(job)
    slurm.wait(job, "FAILED", PATIENCE)
    first, second, (requeued, reason) = trial.reasons
    assert first == second == (True, "time limit")
    assert not requeued
    assert reason.endswith("cluster.training.minutes=1 is less than a start, a step and a save take; "
                           "amend it to 2 or more")  # fmt: skip


@pytest.mark.long
def test_a_job_whose_ranks_are_killed_at_the_time_limit_is_requeued(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path, training={"minutes": 1, "warning_seconds": 30}, answer="stay")
    job = trial.submit()
    slurm.wait(job, restarted, PATIENCE)
    slurm.start_now(job)
    slurm.wait(job, "COMPLETED", PATIENCE)
    assert trial.reasons == [(True, "time limit"), (False, "done")]


def without_slurm(slurm: Slurm, folder: Path, *allowed: str) -> StandIn:
    """A run on nodes without Slurm's commands but for those allowed."""
    needed = ["bash", "cat", "date", "dirname", "ls", "mkdir", "readlink", "sleep", "wc"]
    for name in (*needed, *allowed):
        (folder / name).symlink_to(shutil.which(name) or name)
    return StandIn(slurm, folder, setup=(f"export PATH={folder}",))


def test_a_job_whose_site_forbids_scontrol_and_squeue_on_its_nodes_has_a_successor(
    slurm: Slurm, tmp_path: Path
) -> None:
    trial = StandIn(slurm, tmp_path, setup=(f"export PATH={tmp_path}",))
    for name in (
        "bash",
        "cat",
        "date",
        "dirname",
        "ls",
        "mkdir",
        "readlink",
        "sbatch",
        "sleep",
        "touch",
        "wc",
    ):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    job = trial.submit()
    after = behind(slurm, trial, job)
    preempt(slurm)
    slurm.wait(job, ended, PATIENCE)
    ids = read_json(trial.run.jobs)["slurm"]
    slurm.wait(ids["train"], "COMPLETED", PATIENCE)
    assert trial.reasons == [(True, "preemption"), (False, "done")]
    assert "scontrol: not on the PATH" in trial.log
    assert "deciding by the signals and the clock" in trial.log
    # The jobs behind could not be changed: Slurm cancels them, and others take their place.
    assert ids["evaluate"] != after
    slurm.wait(after, "CANCELLED", PATIENCE)
    slurm.wait(ids["evaluate"], "COMPLETED", PATIENCE)
