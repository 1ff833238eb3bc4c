"""`train acceptance` as a job of a real Slurm: its ranks are steps of it, over one node and over two."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import scheduler
from kit.cluster.jobs import Job
from kit.relay import resolve
from kit.run import directory
from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from tests.relay import DEMO, FP32, ROOT, TINY, command
from tests.slurm import steps

from .trial import CLUSTER, PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


def submitted(workspace: Path, *overrides: str) -> dict[str, str]:
    """Submit an acceptance; returns what the command printed as JSON."""
    given = (str(DEMO), f"workspace={workspace}", *TINY, *overrides, "--cluster", CLUSTER)
    said: dict[str, str] = json.loads(
        command("train", "acceptance", *given, "--steps", "20", "--json")
    )
    return said


def report_of(workspace: Path) -> dict[str, Any]:
    report: dict[str, Any] = read_json(Workspace(workspace).acceptance("demo").root / "report.json")
    return report


def test_ranks_are_steps_of_a_job_that_slurm_signals_and_one_of_them_can_die(
    slurm: Slurm, tmp_path: Path
) -> None:
    wrapper, wrapped = tmp_path / "container", tmp_path / "wrapped"
    wrapper.write_text(f'#!/bin/bash\necho "$*" >> {wrapped}\nexec "$@"\n')
    wrapper.chmod(0o755)
    options = (
        f"cluster.container={{command: [{wrapper}], python: {sys.executable}}}",
        f"workspace={tmp_path}", f"cluster.environment.PYTHONPATH={ROOT}", "cluster.training.nodes=2",
        "cluster.training.sbatch.comment=site", FP32,
    )  # fmt: skip
    project = resolve.load(DEMO, list(options), CLUSTER)
    run, cluster = Run(tmp_path / "job"), project.cluster
    job = Job("drive", steps.drive, resources="training", starts_ranks=True)
    lay_out = partial(directory.lay_out, replace(project, run=run))
    (number,) = scheduler.for_cluster(cluster).submit(run, cluster, [job], lay_out).jobs.values()
    slurm.wait(number, "COMPLETED", PATIENCE)
    assert slurm.job(number)["Comment"] == "site"
    assert read_json(run.root / "codes.json") == [75, 75, 137]
    told = {path.name for path in steps.folder(run).iterdir()}
    begun = {f"{number}.{start}-{rank}-begun" for start in range(3) for rank in range(2)}
    ended = {
        f"{number}.{start}-{rank}-{name}"
        for start, name in enumerate(("SIGUSR2", "SIGTERM"))
        for rank in range(2)
    }
    # Slurm ends the rank whose neighbour died, by SIGTERM.
    assert (
        begun | ended <= told <= begun | ended | {f"{number}.2-{rank}-SIGTERM" for rank in (0, 1)}
    )
    assert wrapped.read_text().count(" kit.cluster.task ") == 6  # not the process that started them
    for rank, nodes in enumerate((["mdx1"] * 3, ["mdx2", "mdx1", "mdx1"])):
        log = (run.job_logs("rank") / f"rank-0_{rank}_log.out").read_text()
        assert [line.split()[-1] for line in log.splitlines() if " rank: job " in line] == nodes


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_part_runs_in_steps_of_one_job_and_two_nodes_train_together(
    slurm: Slurm, tmp_path: Path
) -> None:
    said = submitted(
        tmp_path, "cluster.training.nodes=2", "cluster.environment.GLOO_SOCKET_IFNAME=lo",
        "cluster.checks.sync_seconds=60", "cluster.checks.write_mb_s=0.001",
    )  # fmt: skip
    slurm.wait(said["job"], lambda one: one["JobState"] in ("COMPLETED", "FAILED"), 3 * PATIENCE)
    report = report_of(tmp_path)
    verdicts = {row["part"]: row for row in report["verdicts"]}
    print(json.dumps(verdicts, indent=1))
    assert {row["state"] for row in report["verdicts"]} == {"ok"}, verdicts
    assert slurm.job(said["job"])["NumNodes"] == "2"
    for name in ("resume, deterministic", "resume, not deterministic"):
        assert verdicts[name]["facts"]["equal"]
        reasons = verdicts[name]["facts"]["interruptions"]
        assert reasons[:2] == ["SIGUSR2", "preemption"]
        # The highest exit code: of the rank that died, or of the others, which Slurm then ends.
        assert reasons[2] in ("crash (exit code 137)", "crash (exit code 143)")
    topology = verdicts["two nodes"]["facts"]["topology"]
    assert (topology["nodes"], topology["ranks"]) == (2, 4)
    nodes = {one["node"] for one in verdicts["preflight"]["facts"]["checks"]}
    assert nodes == {"mdx1", "mdx2"}
    trials = Workspace(tmp_path / "synthetic" / "demo-acceptance")
    assert len(ledger.attempts(trials.run("free-interrupted"))) == 4
