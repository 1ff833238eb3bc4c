"""Chains that are larger than a real Slurm allows: fewer tasks, or refused and taken back whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from kit.store.files import read_json
from kit.store.paths import MANIFEST, Workspace
from tests.relay import DEMO, FP32, wait_until
from tests.warm import light as command

from .trial import CLUSTER, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kit.store.paths import Run

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

MANY = ("corpus.tasks=10000", "tokenizer.tasks=10000", "tokens.tasks=10000")
LATER = "cluster.sbatch.begin=now+3600"
STAGES = 11


@dataclass(frozen=True)
class Site:
    """A workspace, and the submissions to it."""

    slurm: Slurm
    workspace: Path
    calls: Path  # a line for each call of sbatch
    set_limit: Callable[..., None] = field(repr=False)

    @property
    def run(self) -> Run:
        return Workspace(self.workspace).run("demo")

    @property
    def count(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0

    def submit(self, *overrides: str, job: str = "pipeline", code: int = 0) -> str:
        self.calls.unlink(missing_ok=True)
        where = (f"workspace={self.workspace}", FP32, "--cluster", CLUSTER)
        return command(job, "submit", str(DEMO), *overrides, *where, code=code)

    def queued(self) -> list[str]:
        """The elements of jobs in the queue."""
        return self.slurm.run("squeue", "--noheader", "--array", "--format=%i").split()

    def files(self) -> list[Path]:
        return sorted(path for path in self.run.root.rglob("*") if not path.is_dir())

    def empty(self) -> None:
        """Cancel everything, and wait until the queue is empty."""
        self.slurm.run("scancel", f"--user={os.geteuid()}")
        wait_until(lambda: not self.queued(), "an empty queue")


@pytest.fixture
def site(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The test Slurm, with an sbatch that counts its calls and runs what the test wants before one."""
    calls, programs = tmp_path / "calls", tmp_path / "bin"
    programs.mkdir()
    sbatch = programs / "sbatch"
    lines = f'echo >> {calls}\neval "$BEFORE_SBATCH"\nexec {shutil.which("sbatch")} "$@"'
    sbatch.write_text(f"#!/bin/bash\n{lines}\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("BEFORE_SBATCH", "")

    def set_limit(kind: str, limit: str) -> None:
        slurm.run("sacctmgr", "--immediate", "modify", kind, "root", "set", limit)

    made = Site(slurm, tmp_path / "workspace", calls, set_limit)
    made.empty()
    yield made
    made.empty()


@pytest.fixture(scope="module")
def small(slurm: Slurm) -> Iterator[None]:
    """The test Slurm with arrays of at most six tasks, and limits of accounts in force."""
    conf = slurm.root / "etc" / "slurm.conf"
    with conf.open("a", encoding="utf-8") as out:
        out.write("MaxArraySize=6\nAccountingStorageEnforce=associations,limits,qos\n")
    restart(slurm)
    yield
    slurm.kill("slurmctld")
    slurm.repair()  # writes its own slurm.conf


def restart(slurm: Slurm) -> None:
    slurm.kill("slurmctld")
    start(slurm)


def start(slurm: Slurm) -> None:
    """Start slurmctld with the configuration as it stands."""
    program = shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    subprocess.run([program], env=slurm.environment | os.environ, check=True)

    def answers() -> bool:
        return (
            subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode == 0
        )

    wait_until(answers, "slurmctld")


def test_ten_thousand_tasks_take_a_call_of_sbatch_for_each_stage(site: Site) -> None:
    said = site.submit(*MANY, LATER)
    assert site.count == STAGES
    for name in ("preprocess", "count", "tokenize"):
        line = f"{name}: 1,001 tasks instead of 10,000, each with the units of up to 10: MaxArraySize=1001"
        assert line in said.splitlines()
    jobs = read_json(site.run.jobs)["slurm"]
    fields = site.slurm.run("scontrol", "show", "job", "--oneliner", jobs["tokenize"])
    assert "ArrayTaskId=0-1000%2 " in fields
    assert len(site.files()) - len([*site.run.code.rglob("*")]) < 2000
    assert not [*site.run.submissions.rglob("*.pkl")]
    assert len(site.queued()) == 3 * 1001 + 2 + 2 + 6


@pytest.mark.usefixtures("small")
def test_a_capped_array_makes_every_unit_once_and_later_only_what_is_missing(site: Site) -> None:
    given = ("corpus.unit_mb=0.02", "corpus.tasks=100")
    where = (*given, f"workspace={site.workspace}", FP32)
    command("download", "run", str(DEMO), *where)
    said = site.submit(*given, "cluster.arrays.parallel=6", job="preprocess")
    assert (
        "preprocess: 6 tasks instead of 8, each with the units of up to 2: MaxArraySize=6" in said
    )
    job = read_json(site.run.jobs)["slurm"]["preprocess"]
    wait_until(lambda: not site.queued(), "end of the array", PATIENCE)
    manifests = sorted((site.workspace / "shards").glob(f"*/{MANIFEST}"))
    assert len(manifests) > 6
    ran = [path.read_text() for path in site.run.job_logs("preprocess").glob(f"{job}_*_0_log.out")]
    assert len(ran) == 6
    assert sum(len(re.findall(r" of \d+", log)) for log in ran) == len(manifests)

    times = {path: path.stat().st_mtime_ns for path in manifests}
    for path in manifests[3:5]:
        path.unlink()
    shown = site.submit(*given, "--dry-run", job="preprocess")
    assert "preprocess: 2 tasks on one-machine" in shown
    assert "instead of" not in shown
    site.submit(*given, job="preprocess")
    job = read_json(site.run.jobs)["slurm"]["preprocess"]
    wait_until(lambda: not site.queued(), "end of the array", PATIENCE)
    again = {path: path.stat().st_mtime_ns for path in manifests}
    changed = [path for path in manifests if times[path] != again[path]]
    assert changed == manifests[3:5]
    assert len([*site.run.job_logs("preprocess").glob(f"{job}_*_log.out")]) == 2


@pytest.mark.usefixtures("small")
def test_a_limit_of_the_user_is_shared_by_the_chain_and_by_what_is_there(site: Site) -> None:
    site.set_limit("user", "MaxSubmitJobs=20")
    try:
        other = site.slurm.submit("true", "--begin=now+3600")
        said = site.submit(*MANY[:1], LATER)
        assert site.count == STAGES
        assert len(site.queued()) == 1 + 19
        limit = "MaxSubmitJobs=20 of account root, 1 job already in the queue"
        assert (
            f"preprocess: 5 tasks instead of 10,000, each with the units of up to 2,000: {limit}"
            in said
        )
        site.empty()
        assert other not in site.queued()
        site.set_limit("user", "MaxSubmitJobs=10")
        before = site.files()
        said = site.submit(*MANY, LATER, code=2)
        assert said.splitlines() == [
            "error: MaxSubmitJobs=10 of account root: room for 10 jobs, and the chain has 11; submit it in "
            "parts, as with --until"
        ]
        assert (site.count, site.files()) == (0, before)
    finally:
        site.set_limit("user", "MaxSubmitJobs=-1")


@pytest.mark.usefixtures("small")
def test_a_limit_that_only_sbatch_knows_is_found_or_told_in_its_words(site: Site) -> None:
    site.submit(LATER)
    site.empty()
    before, record = site.files(), site.run.jobs.read_bytes()
    site.set_limit("account", "GrpSubmitJobs=6")
    try:
        said = site.submit(*MANY, LATER, code=2)
        assert re.fullmatch(
            r"error: cluster one-machine: sbatch refuses preprocess: sbatch: error: .* \(job submit limit, "
            r".*\) \(AssocGrpSubmitJobsLimit\); lower corpus.tasks, or submit the chain in parts, as with "
            r"--until\n",
            said,
        )
        assert site.queued() == []
        # The record is the one of the submission before.
        assert (site.files(), site.run.jobs.read_bytes()) == (before, record)
        site.set_limit("account", "GrpSubmitJobs=16")
        said = site.submit(*MANY, LATER)
        assert "AssocGrpSubmitJobsLimit" in said
        assert STAGES <= len(site.queued()) <= 16
        assert STAGES < site.count <= 4 * STAGES
    finally:
        site.set_limit("account", "GrpSubmitJobs=-1")


def test_jobs_that_cannot_be_cancelled_are_named_and_stay_on_record(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """slurmctld dies while the fourth job is submitted."""
    pid = (site.slurm.root / "pid" / "slurmctld.pid").read_text().strip()
    # TERM: it saves its state first, so that the jobs are there when it is back.
    gone = f"for i in {{1..100}}; do kill -0 {pid} || break; sleep 0.1; done"
    fourth = f"[ $(wc -l < {site.calls}) -lt 4 ] || {{ kill {pid}; {gone}; }}"
    monkeypatch.setenv("BEFORE_SBATCH", fourth)
    try:
        said = site.submit(LATER, code=2)
    finally:
        start(site.slurm)
    jobs = read_json(site.run.jobs)["slurm"]
    assert [*jobs] == ["count", "download", "preprocess"]
    first, *others = said.splitlines()[-1].split("; ")
    assert first.startswith(
        "error: cluster one-machine: sbatch refuses merge: sbatch: error: Batch job"
    )
    ids = " ".join(sorted(jobs.values(), key=int))
    assert others[-1].endswith(f"once Slurm answers, type: scancel {ids}")
    monkeypatch.setenv("BEFORE_SBATCH", "")
    # The next submission sends the others behind them, and none twice.
    site.submit(LATER)
    assert site.count == STAGES - 3
    assert jobs.items() <= read_json(site.run.jobs)["slurm"].items()
    behind = site.slurm.job(read_json(site.run.jobs)["slurm"]["merge"])
    assert f"afterok:{jobs['count']}" in behind["Dependency"]
