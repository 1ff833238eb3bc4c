"""What seventy days bring, on a real Slurm: the run goes on from its last checkpoint, or says why not.

Most runs here have more steps than they are given time for, and are cancelled once they have shown
that they go on; that an interruption leaves no trace in the weights is shown in test_relay.py.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.cluster import decisions
from kit.store.files import read_json
from kit.store.paths import Run
from kit.tracking import ledger
from tests.relay import DEMO, SLOW, copy_of, wait_for_step, wait_until
from tests.speed import LONG
from tests.warm import light as command

from .trial import (
    ALONE,
    PATIENCE,
    WHOLE,
    processes_of,
    submit,
    wait_for_attempt,
    wait_for_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.store.paths import Run

    from .conftest import Fields, Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

# Small steps that mostly wait, and more of them than there is time for.
ENDLESS = (
    SLOW,
    "model.n_layer=1",
    "model.n_embd=32",
    "model.n_head=2",
    "model.n_positions=32",
    "training.global_batch=8",
    "training.micro_batch=2",
    "training.validate_every=1000",
    "training.validation_blocks=2",
    "training.checkpoint_every=20",
    "training.steps=1000000",
    "tracking.tensorboard=false",
    "tracking.mlflow=null",
)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    """A workspace whose tokens are made."""
    return copy_of(tokens, tmp_path_factory.mktemp("long-run"))


@pytest.fixture(autouse=True)
def whole_cluster(slurm: Slurm) -> Iterator[None]:
    """Every test has both nodes, and leaves no job behind."""
    yield
    slurm.repair()
    wait_until(lambda: not slurm.run("squeue", "--noheader").strip(), "empty queue", PATIENCE)


def restarted(times: int) -> Callable[[Fields], bool]:
    """Whether a job waits for, or is in, a start after so many requeues."""
    return lambda job: int(job["Restarts"]) >= times


def go_on(slurm: Slurm, job: str, times: int = 1) -> None:
    """Wait until a job has been requeued so many times, and start it without Slurm's pause."""
    slurm.wait(job, restarted(times), timeout=PATIENCE)
    slurm.start_now(job)


def starts(run: Run) -> list[int]:
    """The step from which each attempt started."""
    return [read_json(attempt.start)["from_step"] for attempt in ledger.attempts(run)]


def reasons(run: Run) -> list[str]:
    """What was decided after each start of the training job."""
    return [row["reason"] for row in decisions.read(run) if row["name"] == "train"]


def status(run: Run, *overrides: str) -> str:
    """What `jobs.train status` prints."""
    return command("train", "status", str(DEMO), f"workspace={run.root.parents[1]}", *overrides)


def log_of(run: Run) -> str:
    """The output of all starts of the training job."""
    return "".join(path.read_text() for path in sorted(run.job_logs("train").glob("*.out")))


# A rank that neither a signal nor SIGCONT wakes, as one that waits for a dead file system: traced by
# another process, which lets it die only.
_FREEZER = """
import ctypes, os, sys
ptrace, pid = ctypes.CDLL(None, use_errno=True).ptrace, int(sys.argv[1])
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT = 0x4206, 0x4207  # linux/ptrace.h
assert ptrace(SEIZE, pid, 0, 0) == 0 and ptrace(INTERRUPT, pid, 0, 0) == 0
_, how = os.waitpid(pid, 0x40000000)
print("frozen", flush=True)
while not (os.WIFEXITED(how) or os.WIFSIGNALED(how)):
    _, how = os.waitpid(pid, 0x40000000)  # __WALL
"""


def freeze(pid: int) -> subprocess.Popen[str]:
    """Keep the main thread of a process from running, until SIGKILL ends it."""
    freezer = subprocess.Popen(
        [sys.executable, "-c", _FREEZER, str(pid)], stdout=subprocess.PIPE, text=True
    )
    assert freezer.stdout is not None
    assert freezer.stdout.readline() == "frozen\n"
    return freezer


def test_a_preemption_without_time_to_save_costs_the_steps_since_the_last_checkpoint(
    slurm: Slurm, workspace: Path
) -> None:
    chosen = [one for one in ENDLESS if "micro_batch" not in one] + ["training.micro_batch=auto"]
    name = ("name=hasty", *chosen, "cluster.training.partition=hasty")
    run, jobs = submit(workspace, *name, job="train")
    training = read_json(run.recipe)["training"]
    assert training["micro_batch"] == 4  # all that a rank has in a step
    assert training["micro_batch_reason"].startswith("the largest that divides the 4 blocks")
    wait_for_checkpoint(run)
    freezer = freeze(processes_of(jobs["train"])[1])  # so that no save can end
    high = slurm.submit("true", "--partition=high", *WHOLE)
    slurm.wait(high, "COMPLETED", timeout=PATIENCE)
    freezer.wait(PATIENCE)
    go_on(slurm, jobs["train"])
    wait_for_attempt(run, 2)
    assert not run.attempt(1).end.exists()
    rows = ledger.rows(run.attempt(1))
    committed = max(row["step"] for row in rows if row["kind"] == "checkpoint")
    assert starts(run) == [0, committed]
    assert read_json(run.recipe)["training"] == training  # `auto` is decided once
    assert set(reasons(run)) <= {"requeued by Slurm"}


def test_time_limits_in_a_row_are_each_met_by_a_save_and_cost_no_budget(
    slurm: Slurm, workspace: Path
) -> None:
    name = ("name=limited", *ENDLESS, "cluster.training.failures=0")
    warning = "cluster.training.warning_seconds=30"
    run, jobs = submit(workspace, *name, warning, job="train")
    job = jobs["train"]
    limits = (1, 2) if LONG else (1,)  # Slurm takes half a minute to a minute for each
    for times in limits:
        wait_for_attempt(run, times)
        assert told_of_the_limit(slurm, job, times - 1)
        bring_the_limit(slurm, job)
        slurm.wait(job, restarted(times), timeout=PATIENCE)
        slurm.run("scontrol", "update", f"jobid={job}", "timelimit=60")
        slurm.start_now(job)
    wait_for_attempt(run, 1 + len(limits))
    ends = [read_json(run.attempt(number).end) for number in limits]
    assert {end["outcome"] for end in ends} == {"interrupted"}
    # The limit came sooner than the ranks were told at their start; the exit trap asks Slurm.
    assert {end["reason"] for end in ends} <= {"SIGUSR2", "time limit"}
    assert reasons(run) == ["time limit" for _ in limits]
    assert starts(run) == [0, *(end["step"] for end in ends)]
    assert starts(run) == sorted(set(starts(run)))
    assert slurm.job(job)["Comment"] == "ekiden: time limit, requeued"


def told_of_the_limit(slurm: Slurm, job: str, restarts: int) -> bool:
    """Whether all ranks know when the time limit ends, as Slurm has it."""
    ends = datetime.fromisoformat(slurm.job(job)["EndTime"]).timestamp()
    known = [
        (Path("/proc") / str(pid) / "environ").read_text().split("\0")
        for pid in processes_of(job, restarts).values()
    ]
    return len(known) == 2 and all(f"EKIDEN_END_TIME={ends:.0f}" in found for found in known)


def bring_the_limit(slurm: Slurm, job: str) -> None:
    """Shorten the time limit to the first full minute that leaves a save its time."""
    # Slurm counts limits in minutes and looks at them every 30 s: USR2 comes 60 to 30 s before.
    hours, minutes, seconds = map(int, slurm.job(job)["RunTime"].split(":"))
    limit = hours * 60 + minutes + (1 if seconds < 20 else 2)
    slurm.run("scontrol", "update", f"jobid={job}", f"timelimit={limit}")


def test_requeues_by_hand_a_lost_node_and_a_new_slurmctld_leave_one_run(
    slurm: Slurm, workspace: Path
) -> None:
    run, jobs = submit(
        workspace, "name=moved", *ENDLESS, "tracking.mlflow=workspace", ALONE, job="train"
    )
    job = jobs["train"]
    wait_for_attempt(run, 1)

    slurm.run("scontrol", "requeue", job)
    go_on(slurm, job, 1)
    wait_for_attempt(run, 2)

    node = slurm.job(job)["NodeList"]
    slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=trial")
    slurm.wait(job, restarted(2), timeout=PATIENCE)
    # With a lost node Slurm waits for no process, and cred_expire is short here: a job that starts
    # where its old step still dies is refused.
    slurm.run("scontrol", "update", f"jobid={job}", "starttime=now+3600")
    slurm.start_now(job)
    wait_for_attempt(run, 3)

    slurm.kill("slurmctld")
    before = max(row["step"] for row in ledger.canonical(run))
    wait_for_step(run, before + 5)
    slurm.up()
    slurm.wait(job, "RUNNING", timeout=PATIENCE)
    wait_for_step(run, before + 10)

    # A save has KillWait (10 s here), which a busy machine may not give: the checkpoint before counts.
    begun = starts(run)
    assert len(begun) == 3
    assert begun == sorted(begun)
    made = [row["step"] for row in ledger.canonical(run) if row["kind"] == "step"]
    assert made == list(range(1, len(made) + 1))
    assert slurm.job(job)["Restarts"] == "2"
    # The trap has KillWait (10 s here) to say so: on a busy machine it comes to nothing.
    assert set(reasons(run)) <= {"requeued by Slurm"}
    assert [path.name for path in run.root.parent.glob("moved*")] == ["moved"]
    last = begun[-1]
    wait_until(lambda: max(shown_by_mlflow(run), default=0) > last, "new step in MLflow", PATIENCE)
    steps = shown_by_mlflow(run)
    assert steps == list(range(1, len(steps) + 1))


def shown_by_mlflow(run: Run) -> list[int]:
    """The steps of the one MLflow run that has this run's identity; none where it is not there yet."""
    identity = read_json(run.identity)["id"]
    path = run.root.parents[1] / "mlflow.db"
    if not path.is_file():  # rank 0 makes it, in the background
        return []
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as store:
        found = store.execute(
            "select run_uuid from tags where key = 'ekiden.run' and value = ?", [identity]
        ).fetchall()
        assert len(found) <= 1
        rows = store.execute(
            "select step from metrics where run_uuid = ? and key = 'train/loss' order by step",
            found[0] if found else [""],
        ).fetchall()
    return [int(step) for (step,) in rows]


def test_a_stopped_and_a_cancelled_run_say_so_and_the_next_submission_goes_on(
    slurm: Slurm, workspace: Path
) -> None:
    name = ("name=stopped", *ENDLESS, ALONE, "training.keep_every=20")
    run, jobs = submit(workspace, *name, job="train")
    wait_until(run.checkpoint(20, 1).is_dir, "checkpoint of step 20", PATIENCE)
    evaluate_beside(slurm, run, jobs["train"])
    run.stop.touch()
    job = slurm.wait(jobs["train"], "FAILED", timeout=PATIENCE)
    assert job["Restarts"] == "0"
    assert "; stopped\n  reason STOP file" in status(run, *name)
    stopped = read_json(run.attempt(1).end)
    assert (stopped["outcome"], stopped["saved"]) == ("stopped", stopped["step"])

    _, jobs = submit(workspace, *name, job="train")
    assert not run.stop.exists()
    wait_for_attempt(run, 2)
    assert "; stopped" not in status(run, *name)
    slurm.run("scancel", jobs["train"])
    assert slurm.wait(jobs["train"], "CANCELLED", timeout=PATIENCE)["Restarts"] == "0"
    cancelled = read_json(run.attempt(2).end)
    # The exit trap has KillWait (10 s here) to say so; on a busy machine squeue alone does.
    assert re.search(r"; cancelled\n  reason (by its user|Slurm: CANCELLED)", status(run, *name))

    submit(workspace, *name, job="train")
    wait_for_attempt(run, 3)
    assert starts(run) == [0, stopped["step"], cancelled["step"]]


def evaluate_beside(slurm: Slurm, run: Run, train: str) -> None:
    """Have step 20 evaluated by a job of its own, while the training job runs and stays the only one."""
    before = read_json(run.jobs)
    command("evaluate", "submit", str(run.root), "--step", "20")
    (job,) = read_json(run.at(20).job("evaluate").jobs)["slurm"].values()
    assert slurm.wait(job, "COMPLETED", timeout=PATIENCE)["JobName"] == "stopped-evaluate-20"
    assert read_json(run.at(20).evaluation / "scores.json")["training"]["finished"] is False
    assert slurm.job(train)["JobState"] == "RUNNING"
    assert read_json(run.jobs) == before
    said = command("train", "submit", str(run.root))
    assert said == f"nothing to submit: train (job {train}) is running\n"
    assert len(ledger.attempts(run)) == 1


@pytest.mark.long
def test_of_two_attempts_at_once_the_newer_goes_on_and_the_older_counts_for_nothing(
    slurm: Slurm, workspace: Path
) -> None:
    run, jobs = submit(workspace, "name=twofold", *ENDLESS, job="train")
    job = jobs["train"]
    wait_for_step(run, 25)
    node = slurm.job(job)["NodeList"]
    slurm.kill(f"slurmd.{node}")
    older = processes_of(job)
    assert sorted(older) == [0, 1]
    slurm.wait(job, restarted(1), timeout=PATIENCE)
    for pid in older.values():
        os.kill(pid, signal.SIGSTOP)  # they sleep until the newer attempt has a checkpoint
    slurm.start_now(job, beside_older=True)
    slurm.wait(job, "RUNNING", timeout=PATIENCE)
    assert slurm.job(job)["NodeList"] != node
    wait_until(lambda: 2 in attempts_saved(run), "checkpoint of attempt 2", PATIENCE)
    begun = steps_of(run, 1)
    for pid in older.values():
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not processes_of(job), "end of the older attempt", PATIENCE)
    # Where slurmctld tells the old srun of the lost node, the exit trap comes before the ranks' end.
    assert set(reasons(run)) <= {"requeued by Slurm", "superseded by a newer attempt"}
    assert not any(row["requeued"] for row in decisions.read(run))
    assert read_json(run.attempt(1).end)["outcome"] == "superseded"
    # The step that it slept in; what belongs to that step, as a validation, is not counted.
    assert steps_of(run, 1) <= begun + 1
    last = max(row["step"] for row in ledger.canonical(run))
    wait_for_step(run, last + 5)
    assert slurm.job(job)["Restarts"] == "1"
    assert attempts_saved(run) <= {1, 2}
    newest = max(run.committed_checkpoints().values(), key=lambda made: made[::-1])
    assert newest[1] == 2


def steps_of(run: Run, attempt: int) -> int:
    """How many steps an attempt has in its ledger."""
    return sum(row["kind"] == "step" for row in ledger.rows(run.attempt(attempt)))


def attempts_saved(run: Run) -> set[int]:
    """The attempts that made the checkpoints there are."""
    return {attempt for _, attempt in run.committed_checkpoints().values()}


@pytest.mark.long
def test_a_slurmctld_that_is_away_as_an_attempt_ends_is_waited_for(
    slurm: Slurm, workspace: Path
) -> None:
    run, jobs = submit(workspace, "name=unanswered", *ENDLESS, ALONE, job="train")
    wait_for_checkpoint(run)
    slurm.kill("slurmctld")
    os.kill(processes_of(jobs["train"])[0], signal.SIGKILL)
    wait_until(lambda: "again in 15 s" in log_of(run), "trap that waits", PATIENCE)
    assert not reasons(run)
    slurm.up()
    go_on(slurm, jobs["train"])
    wait_for_attempt(run, 2)
    assert [reason.split()[0] for reason in reasons(run)] == ["crash"]
    assert starts(run)[1] >= 20


def test_a_rank_that_hangs_is_seen_and_a_node_with_two_failures_is_left_out(
    slurm: Slurm, workspace: Path
) -> None:
    health = ("training.health.hang_seconds=5", "training.save_pause=1")
    run, jobs = submit(workspace, "name=hung", *ENDLESS, *health, job="train")
    job = jobs["train"]
    nodes: list[str] = []
    while len(set(nodes)) == len(nodes):  # Slurm starts a requeued job on the node it likes
        wait_for_attempt(run, len(nodes) + 1, steps=25)
        nodes.append(slurm.job(job)["NodeList"])
        os.kill(processes_of(job, len(nodes) - 1)[1], signal.SIGSTOP)
        slurm.wait(job, restarted(len(nodes)), timeout=PATIENCE)
        slurm.start_now(job)
    node = nodes[-1]
    wait_for_attempt(run, len(nodes) + 1)
    assert [reason.split(" (")[0] for reason in reasons(run)] == ["hang"] * len(nodes)
    assert "ekiden: hang (rank" in slurm.job(job)["Comment"]
    said = log_of(run)
    assert re.search(r"attempt 1 rank 0: step \d+ has not ended after ", said)
    assert "most recent call first" in said
    # What rank 0 was waiting for, by torch's flight recorder.
    recorded = read_json(run.attempt(1).flight_record("gloo", "0.json"))
    assert not recorded["entries"][-1]["retired"]
    assert [row["nodes"] for row in decisions.read(run)] == [[one] for one in nodes]
    assert slurm.job(job)["NodeList"] != node
    assert slurm.job(job)["ExcNodeList"] == node
    assert f"{node} excluded, 2 failures of this run" in said
