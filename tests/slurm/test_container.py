"""Tasks in a container, by a stand-in for apptainer: another PATH without Slurm, and another Python."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.cluster import decisions
from kit.cluster.snapshot import snapshot
from kit.relay.resolve import read_run
from kit.relay.stages import stages_of
from kit.run.environment import installed_packages
from kit.store.files import read_json
from kit.store.paths import MANIFEST, Workspace
from tests.relay import DEMO, FP32, SHORT, command, log_of, wait_for_step, wait_until

from .trial import CLUSTER, PATIENCE, WHOLE

if TYPE_CHECKING:
    from kit.store.paths import Run

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

# Leaves as a container does that cannot start, the first time that task 1 of an array is started.
OUTSIDE = {"sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun"}
WRAPPER = """#!/bin/bash
here=$(dirname "$0")
echo "$PYTHONPATH" >> "$here/wrapped"
if [ "$SLURM_ARRAY_TASK_ID" = 1 ] && mkdir "$here/failed" 2> /dev/null; then exit 3; fi
[ "$1 $2" = "exec my image.sif" ] || exit 4
shift 2
export PATH="$here/inside"
exec "$@"
"""
PYTHON = """#!/bin/bash
echo "$*" >> {record}
exec {python} "$@"
"""


@dataclass(frozen=True)
class Image:
    """The stand-in, a Python that is only inside, and one for the batch shell."""

    folder: Path

    def __post_init__(self) -> None:
        inside = self.folder / "inside"
        inside.mkdir(parents=True)
        for program in Path("/usr/bin").iterdir():
            if program.name not in OUTSIDE and not program.name.startswith("python"):
                (inside / program.name).symlink_to(program)
        self._program(self.folder / "apptainer", WRAPPER)
        for path, name in ((inside / "python3", "inner"), (self.folder / "outside", "outer")):
            record = shlex.quote(str(self.folder / name))
            self._program(path, PYTHON.format(record=record, python=sys.executable))

    @property
    def overrides(self) -> tuple[str, ...]:
        words = f"[{self.folder}/apptainer, exec, my image.sif]"
        return (
            f"cluster.container={{command: {words}}}",
            f"cluster.python={self.folder}/outside",
        )

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def submit(workspace: Path, job: str, *overrides: str) -> Run:
    where = (f"workspace={workspace}", FP32, "--cluster", CLUSTER)
    command(job, "submit", str(DEMO), *overrides, *where)
    return Workspace(workspace).run("demo")


def test_an_array_runs_in_a_container_and_its_trap_outside(slurm: Slurm, tmp_path: Path) -> None:
    image, workspace = Image(tmp_path / "a site"), tmp_path / "workspace"
    command("download", "run", str(DEMO), f"workspace={workspace}", FP32)
    run = submit(workspace, "preprocess", "corpus.tasks=2", *image.overrides)
    assert not run.environment.exists()
    job = read_json(run.jobs)["slurm"]["preprocess"]
    wait_until(lambda: bool(decisions.read(run)), "a decision", PATIENCE)
    slurm.start_now(f"{job}_1")
    wait_until(lambda: not slurm.run("squeue", "--noheader", f"--jobs={job}"), "its end", PATIENCE)
    assert len([*(workspace / "shards").glob(f"*/{MANIFEST}")]) > 2, log_of(run, "preprocess")
    (row,) = [row for row in decisions.read(run) if row["requeued"]]
    assert (row["job"], row["reason"]) == (f"{job}_1.0", "failed (exit code 3)")
    # Three starts were wrapped, two of which came to Python; the code is the snapshot.
    assert image.lines("wrapped") == [str(run.code.resolve())] * 3
    assert len(image.lines("inner")) == 2
    assert all(line.startswith("-u -m kit.cluster.task ") for line in image.lines("inner"))
    assert all(line.startswith("-m kit.cluster.requeue ") for line in image.lines("outer"))
    assert len(image.lines("outer")) == 3
    assert run.environment.read_text().splitlines() == installed_packages()


@pytest.mark.long
def test_a_whole_relay_in_a_container_survives_a_preemption(slurm: Slurm, tmp_path: Path) -> None:
    image, workspace = Image(tmp_path / "site"), tmp_path / "workspace"
    (tmp_path / "site/failed").mkdir()
    run = submit(workspace, "pipeline", *SHORT, *image.overrides)
    jobs = read_json(run.jobs)["slurm"]
    wait_for_step(run, 20)
    high = slurm.submit("sleep 600", "--partition=high", *WHOLE)
    slurm.wait(high, "RUNNING", timeout=PATIENCE)
    slurm.run("scancel", high)
    slurm.wait(jobs["generate"], "COMPLETED", timeout=PATIENCE)
    attempts = snapshot(run).begun
    assert [attempt.end.outcome for attempt in attempts if attempt.end] == ["interrupted", "done"]
    # Each job is started once, and the training, of two ranks, once more.
    recipe = read_run(run.root).recipe
    starts = {stage.name: stage.job(recipe).tasks for stage in stages_of(recipe)} | {"train": 2 * 2}
    assert Counter(line.split()[4] for line in image.lines("inner")) == starts, decisions.read(run)
    assert len(image.lines("wrapped")) == sum(starts.values())
