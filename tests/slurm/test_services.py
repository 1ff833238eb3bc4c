"""TensorBoard, MLflow and a guard as jobs: what they serve or send, and that a requeued job continues."""

from __future__ import annotations

import getpass
import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from kit.relay import resolve
from kit.store.paths import Workspace
from tests.programs.test_services import is_open, losses, make_run, needs
from tests.relay import DEMO, ROOT, wait_until
from tests.services import CREDENTIALS, LIGHT, ask, draw, opened
from tests.written import crashed

from .trial import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Slurm

pytestmark = pytest.mark.slurm


def submit(slurm: Slurm, script: str, *arguments: str, **variables: str) -> str:
    """Submit a script of sbatch/services as a user does, in the environment of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            LIGHT | variables | {"EKIDEN": f"{sys.executable} -m jobs.ekiden"}
        ).items():
            patch.setenv(name, value)
        where = ("--partition=low", "--mem=0", "--time=10", f"--chdir={ROOT}")
        (slurm.root / "jobs").mkdir(exist_ok=True)
        log = f"--output={slurm.root}/jobs/%j.out"
        path = str(ROOT / "sbatch" / "services" / script)
        return slurm.run("sbatch", "--parsable", *where, log, path, *arguments).strip()


def address_of(slurm: Slurm, job: str, starts: int = 1) -> str:
    """The address that a start of a job has printed."""

    def has_begun() -> bool:
        assert slurm.job(job)["JobState"] in ("PENDING", "RUNNING", "COMPLETING"), slurm.output(job)
        return slurm.output(job).count("and open:") == starts

    wait_until(has_begun, "service", PATIENCE)
    return opened(slurm.output(job)) or ""


def reach_time_limit(slurm: Slurm, job: str) -> None:
    """Do as Slurm does two minutes before it: USR1 to the batch shell."""
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    slurm.wait(job, lambda fields: fields["Restarts"] == "1", PATIENCE)
    slurm.start_now(job)


def test_tensorboard_is_a_job_that_requeues_itself_at_its_time_limit(
    slurm: Slurm, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "work")
    draw(workspace.run("demo"), 3)
    job = submit(slurm, "tensorboard.sbatch", str(workspace.root))
    address_of(slurm, job)
    wait_until(lambda: ask(slurm.output(job), "/data/runs") == ["demo"], "the run", PATIENCE)
    node, host, user = slurm.job(job)["NodeList"], os.uname().nodename, getpass.getuser()
    assert f"of {node}, job {job}\n" in slurm.output(job)
    assert f"-J {user}@{host} {user}@{node}\n" in slurm.output(job)
    reach_time_limit(slurm, job)
    port = int(address_of(slurm, job, starts=2).split(":")[2].split("/")[0])
    slurm.run("scancel", job)
    slurm.wait(job, "CANCELLED")
    wait_until(lambda: not is_open(port), "the end of the server", PATIENCE)
    wait_until(lambda: slurm.output(job).count("interrupted (SIGTERM)") == 2, "an end in order", 60)


@pytest.mark.long
def test_mlflow_is_a_job_that_continues_from_its_backup(slurm: Slurm, tmp_path: Path) -> None:
    needs("flask_wtf")
    workspace = Workspace(tmp_path / "work")
    draw(workspace.run("demo"), 3)
    arguments = (str(workspace.root), "--auth", "--scratch", str(tmp_path / "node"))
    job = submit(slurm, "mlflow.sbatch", *arguments, **CREDENTIALS)
    address_of(slurm, job)
    run = make_run(slurm.output(job), 2.5, CREDENTIALS)
    reach_time_limit(slurm, job)
    address_of(slurm, job, starts=2)
    assert "restored from a backup" in slurm.output(job)
    assert losses(slurm.output(job), run, CREDENTIALS) == [2.5]
    make_run(slurm.output(job), 1.5, CREDENTIALS)
    slurm.run("scancel", job)
    slurm.wait(job, "CANCELLED")
    wait_until(lambda: not workspace.mlflow_server.record.exists(), "an end in order", PATIENCE)


def test_a_guard_requeues_itself_at_its_time_limit_and_ends_with_scancel(
    slurm: Slurm, tmp_path: Path
) -> None:
    given = [f"workspace={tmp_path}/work", "alerts.command=cat >> messages.jsonl"]
    run = crashed(Workspace(tmp_path / "work"), resolve.load(DEMO, given).recipe)
    job = submit(slurm, "guard.sbatch", str(run.root))
    wait_until(run.guard.heartbeat.exists, "first look", PATIENCE)
    reach_time_limit(slurm, job)
    run.guard.heartbeat.unlink()
    wait_until(run.guard.heartbeat.exists, "look after the time limit", PATIENCE)
    assert slurm.output(job).count(f"guarding {run.root}") == 2
    lines = (run.root / "messages.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == ["ended", "mlflow_behind"]
    slurm.run("scancel", job)
    slurm.wait(job, "CANCELLED", PATIENCE)
    wait_until(lambda: slurm.output(job).count("stopping (SIGTERM)") == 2, "its end", PATIENCE)
    assert slurm.job(job)["JobState"] == "CANCELLED"
