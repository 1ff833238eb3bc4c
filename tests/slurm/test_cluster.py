"""The test cluster is what it claims to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.cluster import launch
from tests.relay import wait_until

if TYPE_CHECKING:
    from .conftest import Slurm

pytestmark = pytest.mark.slurm


def test_nodes_are_idle_and_have_eight_gpus(slurm: Slurm) -> None:
    def nodes() -> list[str]:
        show = ("--noheader", "--Node", "--partition=low", "--format=%N %G %T")
        return slurm.run("sinfo", *show).splitlines()

    # Another test's job may be about to leave.
    idle = ["mdx1 gpu:a100:8 idle", "mdx2 gpu:a100:8 idle"]
    wait_until(lambda: nodes() == idle, f"idle nodes, but {nodes()}")


def test_every_node_of_a_job_sees_its_gpus(slurm: Slurm) -> None:
    body = "srun bash -c 'echo $SLURM_NODEID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES' | sort"
    jobid = slurm.submit(body, "--nodes=2", "--gpus-per-node=8")
    slurm.wait(jobid, "COMPLETED")
    assert slurm.output(jobid) == "0 mdx1 0,1,2,3,4,5,6,7\n1 mdx2 0,1,2,3,4,5,6,7\n"


@pytest.mark.parametrize(("line", "value"), [(launch._TO_TASKS, "ours"), ("", "")])
def test_tasks_get_the_environment_of_a_script_that_was_sent_without_one(
    slurm: Slurm, line: str, value: str
) -> None:
    body = f"export VALUE=ours\n{line}\nsrun /bin/bash -c 'echo value=$VALUE'"
    jobid = slurm.submit(body, "--export=NONE")
    slurm.wait(jobid, "COMPLETED")
    assert slurm.output(jobid) == f"value={value}\n"


def test_a_preempted_job_runs_again_under_its_id(slurm: Slurm) -> None:
    whole = ("--nodes=2", "--gpus-per-node=8")
    body = "echo restart=${SLURM_RESTART_COUNT:-0}; ((SLURM_RESTART_COUNT)) || sleep 600"
    low = slurm.submit(body, "--partition=low", "--requeue", *whole)
    slurm.wait(low, "RUNNING")
    high = slurm.submit("true", "--partition=high", *whole)
    slurm.wait(high, "COMPLETED")
    slurm.start_now(low)
    assert slurm.wait(low, "COMPLETED")["Restarts"] == "1"
    assert slurm.output(low).startswith("restart=0\n")
    assert slurm.output(low).endswith("restart=1\n")
    if slurm.accounting:
        assert slurm.attempts(low) == ["PREEMPTED", "COMPLETED"]
