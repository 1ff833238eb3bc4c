"""Training over two nodes of a real Slurm: preempted, with a lost node, and continued on one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.cluster import decisions
from kit.store.files import read_json
from kit.tracking import ledger
from kit.training import checkpoint
from tests.relay import TINY, copy_of, curve, final_files, log_of, wait_for_step, wait_until

from .trial import (
    PATIENCE,
    WHOLE,
    is_on_a_node,
    processes_of,
    submit,
    wait_for_attempt,
    wait_for_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.store.paths import Run

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

TWO = (
    "cluster.training.nodes=2",
    "cluster.training.ranks_per_node=1",
    "cluster.training.gpus_per_node=1",
)
ONE = (
    "cluster.training.nodes=1",
    "cluster.training.ranks_per_node=2",
    "cluster.training.gpus_per_node=2",
)
ALONE = (
    "cluster.training.nodes=1",
    "cluster.training.ranks_per_node=1",
    "cluster.training.gpus_per_node=1",
)
RETRIED = 90  # seconds after which slurmctld has sent again what a node has missed
ENDLESS = (
    *TINY,
    "training.checkpoint_every=20",
    "training.validate_every=1000",
    "training.steps=1000000",
)
WHOLE_RUN = (
    *TINY,
    "training.checkpoint_every=20",
    "training.validate_every=30",
    "training.steps=600",
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    """A workspace whose tokens are made."""
    return copy_of(tokens, tmp_path_factory.mktemp("nodes"))


@pytest.fixture(autouse=True)
def whole_cluster(slurm: Slurm) -> Iterator[None]:
    """Every test has both nodes, and leaves no job behind."""
    yield
    slurm.repair()
    wait_until(lambda: not slurm.run("squeue", "--noheader").strip(), "empty queue", PATIENCE)


def preempt(slurm: Slurm, job: str, restarts: int) -> None:
    """Have a job preempted by one that takes both nodes, and start it again."""
    high = slurm.submit("sleep 600", "--partition=high", *WHOLE)
    slurm.wait(high, "RUNNING", timeout=PATIENCE)
    slurm.run("scancel", high)
    slurm.wait(job, lambda fields: int(fields["Restarts"]) >= restarts, timeout=PATIENCE)
    slurm.start_now(job)


def topologies(run: Run) -> list[str]:
    """Nodes x ranks of each attempt."""
    found = [read_json(attempt.start)["topology"] for attempt in ledger.attempts(run)]
    assert {one["backend"] for one in found} == {"gloo"}
    return [f"{one['nodes']}x{one['ranks_per_node']}" for one in found]


def test_a_run_on_two_nodes_is_preempted_and_goes_on(slurm: Slurm, workspace: Path) -> None:
    run, jobs = submit(workspace, "name=nodes", *ENDLESS, *TWO, job="train")
    job = jobs["train"]
    wait_for_checkpoint(run)
    assert slurm.job(job)["NodeList"] == "mdx[1-2]"
    preempt(slurm, job, 1)
    wait_for_attempt(run, 2)
    assert topologies(run) == ["2x1", "2x1"]
    begun = [read_json(attempt.start) for attempt in ledger.attempts(run)]
    assert begun[1]["from_step"] == read_json(run.attempt(1).end)["saved"] > 0
    assert begun[0]["addresses"][0] == "127.0.0.1"  # NodeAddr of both nodes
    assert [row["reason"] for row in decisions.read(run)] == ["preemption"]
    assert checkpoint.committed(run)[0].record["topology"]["nodes"] == 2
    assert "bit-equality is off" not in log_of(run, "train")


@pytest.mark.long
def test_a_preemption_and_a_lost_node_leave_no_trace(slurm: Slurm, workspace: Path) -> None:
    whole, jobs = submit(workspace, "name=undisturbed", *WHOLE_RUN, *TWO, job="train")
    slurm.wait(jobs["train"], "COMPLETED", timeout=PATIENCE)
    cut, jobs = submit(workspace, "name=disturbed", *WHOLE_RUN, *TWO, job="train")
    job = jobs["train"]
    wait_for_step(cut, 50)
    preempt(slurm, job, 1)
    wait_for_attempt(cut, 2)
    lose_a_node(slurm, job)
    slurm.wait(job, lambda fields: int(fields["Restarts"]) >= 2, timeout=PATIENCE)
    # Slurm sends what it could not tell the lost node once that is back: by the job's id, so it would end a
    # new start as well.
    slurm.run("scontrol", "update", f"jobid={job}", "starttime=now+3600")
    slurm.up()
    wait_until(lambda: not is_on_a_node(job), "end of the old step", PATIENCE)
    time.sleep(RETRIED)
    slurm.start_now(job)
    slurm.wait(
        job, lambda fields: fields["JobState"] not in ("PENDING", "RUNNING"), timeout=PATIENCE
    )
    assert slurm.job(job)["JobState"] == "COMPLETED"
    assert topologies(cut) == ["2x1"] * 3
    assert not cut.attempt(2).end.exists()
    assert final_files(cut) == final_files(whole)
    assert curve(cut) == curve(whole)


def lose_a_node(slurm: Slurm, job: str) -> None:
    """End the daemons and processes of a job on the node of its rank 1, as a power cut does."""
    rank = processes_of(job, 1)[1]
    facts = (Path("/proc") / str(rank) / "status").read_text()
    environment = (Path("/proc") / str(rank) / "environ").read_text().split("\0")
    node = next(v.split("=")[1] for v in environment if v.startswith("SLURMD_NODENAME="))
    step = int(next(v.split()[1] for v in facts.splitlines() if v.startswith("PPid:")))
    slurm.kill(f"slurmd.{node}")
    os.kill(step, signal.SIGKILL)
    os.kill(rank, signal.SIGKILL)


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_nodes_and_says_what_that_means(
    slurm: Slurm, workspace: Path
) -> None:
    name = ("name=moving", *ENDLESS)
    shapes = ((TWO, "2x1"), (ONE, "1x2"), (ALONE, "1x1"), (TWO, "2x1"))
    for number, (shape, _) in enumerate(shapes, 1):
        run, jobs = submit(workspace, *name, *shape, job="train")
        wait_for_attempt(run, number)
        run.stop.touch()
        slurm.wait(jobs["train"], "FAILED", timeout=PATIENCE)
    assert topologies(run) == [shape for _, shape in shapes]
    steps = [row["step"] for row in ledger.canonical(run) if row["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    said = log_of(run, "train")
    assert said.count("bit-equality is off: nodes 2 -> 1; ranks_per_node 1 -> 2") == 1
    assert said.count("saved by 2 ranks, resumed on 1") == 1
    assert said.count("saved by 1 rank, resumed on 2") == 1
