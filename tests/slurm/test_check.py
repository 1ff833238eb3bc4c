"""A site is checked before the run: on the login node, by a job, and at each start of the training."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import decisions
from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from tests.relay import DEMO, FP32, ROOT
from tests.slurm.trial import ALONE, CLUSTER, PATIENCE
from tests.warm import light as command

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

# The GPU of one node has memory errors; all others, on every node, are well.
NVML = """
import os

class NVMLError(Exception):
    pass

class Memory:
    used, free, total = 500_000_000, 42_000_000_000, 42_500_000_000

NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0
NVML_P2P_CAPS_INDEX_READ, NVML_P2P_STATUS_OK = 0, 0
nvmlClocksThrottleReasonHwSlowdown = nvmlClocksThrottleReasonHwThermalSlowdown = 8
nvmlClocksThrottleReasonHwPowerBrakeSlowdown = nvmlClocksThrottleReasonSwThermalSlowdown = 32
nvmlInit = lambda: None
nvmlDeviceGetCount = lambda: 8
nvmlDeviceGetHandleByIndex = lambda index: index
nvmlDeviceGetName = lambda gpu: "NVIDIA A100-SXM4-40GB"
nvmlDeviceGetMemoryInfo = lambda gpu: Memory
nvmlDeviceGetTotalEccErrors = lambda gpu, *kind: 3 if os.environ["SLURMD_NODENAME"] == "mdx1" else 0
nvmlDeviceGetRemappedRows = lambda gpu: (0, 0, 0, 0)
nvmlDeviceGetCurrentClocksThrottleReasons = lambda gpu: 0
nvmlDeviceGetP2PStatus = lambda one, other, kind: 0
"""


def checked(workspace: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON of `pipeline check` on the test cluster."""
    given = (str(DEMO), f"workspace={workspace}", FP32, "--cluster", CLUSTER, "--json", *arguments)
    done = subprocess.run(
        [sys.executable, "-m", "jobs.pipeline", "check", *given],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def results(facts: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(one["name"], one["node"]): one["result"] for one in facts["checks"]}


def test_the_start_of_every_attempt_was_checked_and_nothing_was_found(
    preempted: tuple[Run, dict[str, str]],
) -> None:
    run, jobs = preempted
    for number in (1, 2):
        (path,) = run.attempt(number).root.glob("preflight-*.json")
        record = read_json(path)
        assert record["job"] == f"{jobs['train']}.{number - 1}"
        assert path.name == f"preflight-{record['node']}.json"
        assert record["node"].startswith("mdx")
        found = {one["name"]: one["result"] for one in record["checks"]}
        assert found.keys() >= {"space", "inodes", "create", "rename", "clock"}
        slow = {"rename"}  # where the disk has much else to do
        assert {result for name, result in found.items() if name not in slow} == {"ok"}
        assert record["verdict"] == found["rename"] != "bad"
    assert not run.preflights("train", f"{jobs['train']}.0")


def test_both_nodes_are_checked_by_a_job_that_asks_for_what_the_training_asks_for(
    slurm: Slurm, tmp_path: Path
) -> None:
    patient = ("cluster.checks.sync_seconds=60", "cluster.checks.write_mb_s=0.001")
    facts = checked(tmp_path, "--on-cluster", "cluster.training.nodes=2", ALONE, *patient)
    assert facts["verdict"] == "ok"
    found = results(facts)
    for name in ("packages", "port", "address", "deepspeed", "clock"):
        assert {node for one, node in found if one == name} >= {"mdx1", "mdx2"}, name
    reached = [one["found"] for one in facts["checks"] if one["name"] == "address"]
    assert {"reaches mdx1", "reaches mdx2"} <= {*reached}
    assert facts["needs_node"] == []
    job = Workspace(tmp_path).check("demo")
    (number,) = read_json(job.jobs)["slurm"].values()
    fields = slurm.wait(number, "COMPLETED", timeout=PATIENCE)
    assert (fields["NumNodes"], fields["TimeLimit"]) == ("2", "00:15:00")


def test_what_sbatch_would_refuse_is_bad_and_nodes_wait_for_a_job(
    slurm: Slurm, tmp_path: Path
) -> None:
    facts = checked(tmp_path, "cluster.training.sbatch.constraint=huge", code=1)
    (refused,) = [one for one in facts["checks"] if one["result"] == "bad"]
    assert refused["name"] == "submission"
    assert refused["found"].startswith("train: ")
    assert "cluster.training" in refused["remedy"]
    assert {"packages", "address", "mlflow"} <= {*facts["needs_node"]}
    assert not Workspace(tmp_path).root.joinpath("runs").exists()


def test_a_node_with_a_faulty_gpu_is_left_out_at_once_and_costs_no_failure(
    slurm: Slurm, preempted: tuple[Run, dict[str, str]], workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "pynvml.py").write_text(NVML)
    gpu = (
        "name=faulty", "cluster.device=cuda", ALONE, "cluster.training.failures=0",
        f"cluster.environment.PYTHONPATH={tmp_path}", "cluster.training.partition=low",
    )  # fmt: skip
    given = (str(DEMO), f"workspace={workspace}", FP32, *gpu, "--cluster", CLUSTER)
    # So that it starts on mdx1. A drained mdx2 could not replace that node.
    other = slurm.submit("sleep 600", "--partition=low", "--nodelist=mdx2", "--exclusive")
    slurm.wait(other, "RUNNING", timeout=PATIENCE)
    try:
        command("train", "submit", *given)
        run = Workspace(workspace).run("faulty")
        (job,) = read_json(run.jobs)["slurm"].values()
        slurm.wait(job, lambda one: one["JobState"] == "RUNNING", timeout=PATIENCE)
    finally:
        slurm.run("scancel", other)
    slurm.wait(job, lambda one: int(one["Restarts"]) >= 1, timeout=PATIENCE)
    slurm.wait(job, "PENDING", timeout=PATIENCE)
    slurm.run("scontrol", "hold", job)  # for as long as the commands take
    waiting = command("train", "status", *given)
    watched = json.loads(command("watch", str(run.root), "--json"))
    slurm.run("scontrol", "release", job)
    # On the other node the checks pass; then torch says that it has no use of a GPU here.
    slurm.wait(job, "FAILED", timeout=PATIENCE)
    first, second = decisions.read(run)
    why = "preflight (mdx1: gpu_ecc: GPU 0: 3 uncorrectable memory errors)"
    assert (first["requeued"], first["reason"], first["unfit"]) == (True, why, ["mdx1"])
    assert f"requeued after {why}" in waiting
    assert f"requeued after {why}" in watched["chain"]["train"]["reason"]
    assert second["nodes"] == ["mdx2"]
    assert "is built for the CPU" in second["reason"]
    assert slurm.job(job)["ExcNodeList"] == "mdx1"
    assert not run.claimed_attempts()
    records = [read_json(path) for path in run.preflights("train", f"{job}.*")]
    assert {one["node"]: one["verdict"] for one in records} == {"mdx1": "bad", "mdx2": "ok"}
