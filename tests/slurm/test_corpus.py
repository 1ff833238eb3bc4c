"""The corpus on a real Slurm: one chain of arrays, whose tasks die, are damaged, lack their program."""

from __future__ import annotations

import itertools
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.cluster import decisions
from kit.config.filters import NearDuplicates
from kit.corpus.dedup import signatures
from kit.data import duplicates, near_duplicates
from kit.store.files import read_json
from kit.store.manifest import read
from kit.store.paths import MANIFEST, Run, Workspace
from tests import jumanpp
from tests.relay import DEMO, ROOT, wait_until
from tests.slurm.trial import CLUSTER, PATIENCE, processes_of, submit
from tests.warm import light as command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Fields, Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

TASKS = 3
VICTIM = 1  # the task that is killed
PASSES = ("fingerprint", "deduplicate", "signatures", "bands", "clusters", "preprocess")
REPEATED, CHANGED = (
    20,
    10,
)  # documents that the corpus has twice, and those that it has once more, nearly
SLOW = "cluster.environment.STAND_IN_BURN=0.00002"  # seconds a byte: a unit takes about one


@dataclass(frozen=True)
class Trial:
    """A corpus that Slurm made, one of its tasks killed on the way."""

    run: Run
    workspace: Path
    overrides: tuple[str, ...]
    units: list[str]  # in the order of the corpus
    download: dict[str, str]  # ids of jobs
    jobs: dict[str, str]
    half_made: list[str]  # units that were begun and not done when the task was killed

    def shards(self) -> dict[str, bytes]:
        return shards_of(self.workspace)


@pytest.fixture(scope="module", autouse=True)
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Juman++ by its stand-in, for this process, and so for the jobs that it submits."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("jumanpp")
        jumanpp.install(folder)
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def trial(slurm: Slurm, stand_in: None, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Download, then preprocess, with a SIGKILL for a task that has a unit done and one begun."""
    list(signatures.hashes([""], NearDuplicates()))  # compiled here, once, and not by every task
    folder = tmp_path_factory.mktemp("corpus")
    again = folder / "again.txt"  # what the demo has too
    documents = (ROOT / "configs/demo/web.txt").read_text(encoding="utf-8").split("\n\n")
    changed = [f"{text}々" for text in documents[REPEATED : REPEATED + CHANGED]]
    again.write_text("\n\n".join([*documents[:REPEATED], *changed]) + "\n", encoding="utf-8")
    overrides = (
        "corpus.sources.again.kind=plaintext",
        f"corpus.sources.again.location={again}",
        "corpus.filters.duplicates=true",
        "corpus.filters.near_duplicates={}",
        "corpus.segmenter=jumanpp",
        "corpus.unit_mb=0.012",
    )
    workspace = folder / "slurm"
    mine = (*overrides, f"corpus.tasks={TASKS}", SLOW, "cluster.network.partition=high")
    run, download = submit(workspace, *mine, job="download")
    slurm.wait(download["download"], "COMPLETED", timeout=PATIENCE)
    for index in elements(slurm, download["download"]):
        slurm.wait(index, "COMPLETED", timeout=PATIENCE)
    units = [
        piece["name"]
        for source in ("again", "jawiki", "web")
        for piece in read(Workspace(workspace).raw(source), "jobs.download")["pieces"]
    ]
    _, jobs = submit(workspace, *mine, job="preprocess")
    half_made = kill_in_mid_work(slurm, jobs["preprocess"], workspace, units[VICTIM::TASKS])
    for task in range(TASKS):
        ended = slurm.wait(f"{jobs['preprocess']}_{task}", has_ended, timeout=PATIENCE)
        assert ended["JobState"] == "COMPLETED", ended
    return Trial(run, workspace, mine, units, download, jobs, half_made)


def kill_in_mid_work(slurm: Slurm, job: str, workspace: Path, units: list[str]) -> list[str]:
    """SIGKILL for the task that makes these units; returns those that it had begun and not ended."""
    first, second = (Workspace(workspace).shard(unit) for unit in units[:2])
    wait_until(
        lambda: (first / MANIFEST).is_file() and second.is_dir(),
        f"beginning of {second.name}",
        PATIENCE,
        every=0.05,
    )
    element = slurm.job(f"{job}_{VICTIM}")["JobId"]
    os.kill(processes_of(element)[0], signal.SIGKILL)
    folders = [Workspace(workspace).shard(unit) for unit in units]
    return [f.name for f in folders if f.is_dir() and not (f / MANIFEST).is_file()]


def has_ended(job: Fields) -> bool:
    return job["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


@pytest.fixture(scope="module")
def alone(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of the same corpus, made by one task without Slurm."""
    folder = tmp_path_factory.mktemp("alone")
    mine = (*(o for o in trial.overrides if not o.startswith("cluster.")), "corpus.tasks=1")
    for job in ("download", "preprocess"):
        command(job, "run", str(DEMO), f"workspace={folder}", *mine)
    return folder


def shards_of(workspace: Path) -> dict[str, bytes]:
    """The bytes of every shard, and of its manifest."""
    folder = workspace / "shards"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*")}


def elements(slurm: Slurm, job: str) -> list[str]:
    """The ids of the elements of an array, as ARRAYID_INDEX; a job of one task is no array."""
    shown = slurm.run("scontrol", "show", "job", "--oneliner", job)
    numbers = re.findall(r" ArrayTaskId=(\S+)", shown)
    assert all(number.isdecimal() for number in numbers), numbers
    return [f"{job}_{number}" for number in sorted(numbers, key=int)] or [job]


def jobs_of(slurm: Slurm, job: str) -> list[Fields]:
    return [slurm.job(element) for element in elements(slurm, job)]


def test_downloads_run_in_the_partition_with_the_network(slurm: Slurm, trial: Trial) -> None:
    found = jobs_of(slurm, trial.download["download"])
    assert [job["Partition"] for job in found] == ["high"] * 3  # one a source
    assert {job["JobState"] for job in found} == {"COMPLETED"}


def test_the_passes_for_duplicates_and_the_shards_are_one_chain_of_arrays(
    slurm: Slurm, trial: Trial
) -> None:
    assert set(trial.jobs) == set(PASSES)
    found = {name: jobs_of(slurm, job) for name, job in trial.jobs.items()}
    tasks = {name: len(jobs) for name, jobs in found.items()}
    assert tasks == dict.fromkeys(PASSES, TASKS) | {"clusters": 1}
    assert {job["JobState"] for jobs in found.values() for job in jobs} == {"COMPLETED"}
    assert {job["Partition"] for jobs in found.values() for job in jobs} == {"low"}
    for before, after in itertools.pairwise(PASSES):  # times as Slurm writes them can be compared
        ends = max(job["EndTime"] for job in found[before])
        assert min(job["SubmitTime"] for job in found[after]) < ends
        assert min(job["StartTime"] for job in found[after]) >= ends


def test_the_last_task_writes_the_report(trial: Trial) -> None:
    (table,) = (trial.workspace / "corpus-report").glob("*.md")
    rows = {
        row.split("|")[1].strip(): row.split("|")[2]
        for row in table.read_text().splitlines()
        if row.startswith("| left out: ")
    }
    assert int(rows["left out: duplicates"]) == REPEATED
    assert int(rows["left out: near_duplicates"]) == CHANGED


def test_a_task_killed_in_mid_work_is_tried_again_by_itself(slurm: Slurm, trial: Trial) -> None:
    assert len(trial.half_made) == 1
    restarts = [job["Restarts"] for job in jobs_of(slurm, trial.jobs["preprocess"])]
    assert restarts == ["1" if task == VICTIM else "0" for task in range(TASKS)]
    victim = f"{trial.jobs['preprocess']}_{VICTIM}"
    rows = [row for row in decisions.read(trial.run) if row["job"].startswith(f"{victim}.")]
    assert [(row["requeued"], row["reason"]) for row in rows] == [(True, "failed (exit code 137)")]
    assert slurm.job(victim)["Comment"] == "ekiden: done"  # not that of its requeue any more


def test_near_duplicates_found_by_arrays_are_those_of_one_task(trial: Trial, alone: Path) -> None:
    """That the pairs lie in different units, found by different tasks, is what makes it an array's work."""
    folders = [Workspace(path).near_duplicates for path in (trial.workspace, alone)]
    for name in (duplicates.LIST, near_duplicates.KEPT):
        whole, expected = ((folder / name).read_bytes() for folder in folders)
        assert whole == expected
        assert len(whole) == 8 * (REPEATED + CHANGED)
    out, kept = (
        np.fromfile(folders[0] / name, "<u8") >> 32
        for name in (duplicates.LIST, near_duplicates.KEPT)
    )
    assert set(out % TASKS) | set(kept % TASKS) == set(range(TASKS))
    assert (out != kept).all()


def test_shards_made_by_slurm_are_those_of_one_task_without_it(trial: Trial, alone: Path) -> None:
    assert len(trial.units) > 2 * TASKS
    assert {path.split("/")[0] for path in trial.shards()} == set(trial.units)
    assert trial.shards() == shards_of(alone)


def test_a_damaged_shard_is_found_by_verify_and_sends_its_task_only(
    slurm: Slurm, trial: Trial
) -> None:
    whole = trial.shards()
    made = {path: path.stat().st_mtime_ns for path in trial.workspace.glob("shards/*/*")}
    victim = Workspace(trial.workspace).shard(trial.units[4]) / "train.txt.zst"
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(bytes(raw))
    here = (str(DEMO), f"workspace={trial.workspace}", *trial.overrides, "--cluster", CLUSTER)
    assert "nothing to submit" in command("preprocess", "submit", *here)
    said = command("preprocess", "submit", *here, "--verify")
    assert f"preprocess: {victim.parent.name} is damaged" in said
    jobs = read_json(trial.run.jobs)["slurm"]
    assert list(jobs) == ["preprocess"]
    slurm.wait(jobs["preprocess"], "COMPLETED", timeout=PATIENCE)
    assert elements(slurm, jobs["preprocess"]) == [jobs["preprocess"]]  # one task
    assert trial.shards() == whole
    now = {path: path.stat().st_mtime_ns for path in trial.workspace.glob("shards/*/*")}
    assert {path.parent for path in made if made[path] != now[path]} == {victim.parent}
    assert "nothing to submit" in command("preprocess", "submit", *here, "--verify")


def test_a_node_without_jumanpp_says_so_in_one_line_and_is_not_tried_again(
    slurm: Slurm, tmp_path: Path
) -> None:
    folders = os.environ["PATH"].split(os.pathsep)
    elsewhere = os.pathsep.join(f for f in folders if not (Path(f) / "jumanpp").exists())
    mine = ("corpus.segmenter=jumanpp", "corpus.tasks=2")
    command("download", "run", str(DEMO), f"workspace={tmp_path}", *mine)
    run, jobs = submit(tmp_path, *mine, f"cluster.environment.PATH={elsewhere}", job="preprocess")
    for task in range(2):
        slurm.wait(f"{jobs['preprocess']}_{task}", has_ended, timeout=PATIENCE)
    found = jobs_of(slurm, jobs["preprocess"])
    assert [job["JobState"] for job in found] == ["FAILED", "FAILED"]
    assert [job["Restarts"] for job in found] == ["0", "0"]
    logs = [path.read_text() for path in run.job_logs("preprocess").glob("*.out")]
    assert len(logs) == 2
    for log in logs:
        assert "Traceback" not in log
        told = {
            line.partition(" preprocess: ")[2]
            for line in log.splitlines()
            if "no jumanpp on" in line
        }
        assert len(told) == 1, log
        assert re.fullmatch(
            r"mdx[12] has .*resolved to jumanpp .*install the same version on every node",
            *told,
        )
    assert [row["requeued"] for row in decisions.read(run)] == [False, False]
