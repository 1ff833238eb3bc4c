"""The corpus as array jobs on a real Slurm, its words by the stand-in for Juman++."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kit.files import read_json
from kit.workspace import Workspace
from tests import jumanpp
from tests.relay import DEMO, command
from tests.slurm.trial import CLUSTER, PATIENCE, submit

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

CORPUS = (
    "corpus.segmenter=jumanpp",
    "corpus.tasks=3",
    "corpus.filters.duplicates=true",
    "corpus.unit_mb=0.02",
)
NETWORK = "cluster.network={partition: high, minutes: 5}"


@pytest.fixture
def with_jumanpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The stand-in on the PATH, which sbatch hands on to the tasks; returns the PATH without it."""
    before = os.environ["PATH"]
    folder = jumanpp.install(tmp_path / "bin").parent
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{before}")
    return before


def shards_of(workspace: Path) -> dict[str, bytes]:
    """The bytes of every shard, and of its manifest."""
    files = sorted(workspace.glob("shards/*/*"))
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


def test_a_killed_and_a_damaged_task_are_made_again_to_the_same_bytes(
    slurm: Slurm, tmp_path: Path, with_jumanpp: str
) -> None:
    alone, work = tmp_path / "alone", tmp_path / "work"
    for job in ("download", "preprocess"):
        command(job, "run", str(DEMO), f"workspace={alone}", *CORPUS)
    whole = shards_of(alone)
    assert len(whole) > 3 * 6

    _, jobs = submit(work, *CORPUS, NETWORK, job="download")
    slurm.wait(jobs["download"], "COMPLETED", timeout=PATIENCE)
    assert slurm.job(jobs["download"])["Partition"] == "high"
    _, jobs = submit(work, *CORPUS, NETWORK, job="preprocess")
    assert set(jobs) == {"fingerprint", "deduplicate", "preprocess"}
    element = f"{jobs['preprocess']}_1"
    slurm.wait(element, "RUNNING", timeout=PATIENCE)
    slurm.run("scancel", "--signal=KILL", f"{element}.0")
    for task in range(3):
        slurm.wait(f"{jobs['preprocess']}_{task}", "COMPLETED", timeout=PATIENCE)
    assert slurm.job(element)["Restarts"] == "1"
    assert shards_of(work) == whole
    assert (Workspace(work).corpus_report / "report.md").is_file()

    victim = sorted(work.glob("shards/*/train.txt.zst"))[4]  # of task 4 % 3
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(bytes(raw))
    same = (str(DEMO), f"workspace={work}", *CORPUS, NETWORK, "--cluster", CLUSTER)
    said = command("preprocess", "submit", *same, "--verify")
    assert f"{victim.parent.name} is damaged" in said
    jobs = read_json(Workspace(work).run("demo").jobs)["slurm"]
    assert list(jobs) == ["preprocess"]
    assert "ArrayTaskId" not in slurm.job(jobs["preprocess"])  # one task is no array
    slurm.wait(jobs["preprocess"], "COMPLETED", timeout=PATIENCE)
    assert shards_of(work) == whole


def test_a_node_without_the_segmenter_of_the_recipe_ends_the_job_in_one_line(
    slurm: Slurm, tmp_path: Path, with_jumanpp: str
) -> None:
    small = (*CORPUS, "corpus.filters.duplicates=false", "corpus.tasks=1")
    command("download", "run", str(DEMO), f"workspace={tmp_path}", *small)
    without = f"cluster.environment.PATH={with_jumanpp}"
    run, jobs = submit(tmp_path, *small, without, job="preprocess")
    job = slurm.wait(jobs["preprocess"], "FAILED", timeout=PATIENCE)
    assert job["Restarts"] == "0"
    log = "".join(path.read_text() for path in run.job_logs("preprocess").glob("*.out"))
    assert "the recipe was resolved to jumanpp" in log
    assert "Traceback" not in log
