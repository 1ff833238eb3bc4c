"""A dry run on a real Slurm: the script is the one that Slurm got, whatever the path of the workspace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.relay import DEMO, FP32
from tests.warm import light as command

from .trial import CLUSTER, PATIENCE, submit

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Slurm


NASTY = """a 'b' "c" $(touch hole) 駅伝;#"""


def test_slurm_gets_the_script_that_a_dry_run_shows(slurm: Slurm, tmp_path: Path) -> None:
    workspace = tmp_path / NASTY
    later = ("cluster.sbatch.begin=now+3600", "cluster.arrays.sbatch.exclusive=true")
    given = (str(DEMO), *later, f"workspace={workspace}", FP32, "--cluster", CLUSTER)
    planned = json.loads(command("pipeline", "submit", *given, "--dry-run", "--json"))
    assert not workspace.exists()
    _, jobs = submit(workspace, *later)
    try:
        for job in planned:
            number = jobs[job["name"]]
            expected = job["script"]
            for name in job["depends_on"]:
                expected = expected.replace(f"JOB_ID_OF_{name}\n", f"{jobs[name]}\n")
            assert slurm.run("scontrol", "write", "batch_script", number, "-").rstrip("\0\n") == (
                expected.rstrip("\n")
            )
        fields = slurm.run("scontrol", "show", "job", "--oneliner", jobs["train"])
        assert f"StdOut={workspace}/runs/demo/logs/train/{jobs['train']}_0_log.out" in fields
        assert "OverSubscribe=OK" in fields
        assert "OverSubscribe=NO" in slurm.run("scontrol", "show", "job", "-o", jobs["count"])
    finally:
        slurm.run("scancel", *jobs.values())


def test_a_path_full_of_signs_of_the_shell_is_a_workspace(slurm: Slurm, tmp_path: Path) -> None:
    given = (f"cluster.environment.PYTHONPATH={NASTY}", f"cluster.sbatch.comment={NASTY}")
    run, jobs = submit(tmp_path / NASTY, *given, job="download")
    for task in range(2):
        slurm.wait(f"{jobs['download']}_{task}", "COMPLETED", timeout=PATIENCE)
    logs = [path.read_text() for path in run.job_logs("download").glob("*_log.out")]
    assert ["download: done" in log for log in logs] == [True, True]
    assert not [*tmp_path.rglob("hole")]
