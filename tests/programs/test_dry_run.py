"""A dry run shows the scripts that a submission sends, and writes nothing; none is a way into the shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from jobs import pipeline
from kit.errors import ClusterError, ConfigError
from kit.store.files import read_json, write_json

if TYPE_CHECKING:
    from tests.conftest import Workdir

NASTY = """a 'b' "c" $(touch hole) `touch hole` 駅伝;#\\"""
STAGES = 11
# As much of Slurm as a submission talks to. sbatch keeps what it is sent, or refuses an array.
PROGRAMS = {
    "sbatch": """
for script; do :; done
if [ -n "$REFUSES" ] && grep -qF -e "$REFUSES" "$script"; then
    echo "$WORDS" >&2
    exit 1
fi
mkdir -p "$SENT"
number=$(ls "$SENT" | wc -l)
cp "$script" "$SENT/$((number + 1)).sh"
echo "Submitted batch job $((number + 1))"
""",
    "squeue": "exit 0",
    "scancel": "exit 0",
    "scontrol": "exit 1",
    # Prints what it was given, and ends the script before its exit trap.
    "srun": """printf '%s\\0' "$VALUE" "$PYTHONPATH" "$@"; kill -KILL $PPID""",
}


@dataclass(frozen=True)
class Site:
    """A cluster file and a recipe full of what a shell would act on, and the stand-ins for Slurm."""

    workdir: Workdir
    sent: Path

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = ("--cluster", str(self.workdir.folder / "far.yaml"))
        return self.workdir.run(module, "submit", str(self.workdir.recipe_file), *arguments, *where)

    def planned(self, module: str, *arguments: str) -> list[dict[str, Any]]:
        shown = self.run(module, *arguments, "--dry-run", "--json")
        assert shown.returncode == 0, shown.stderr
        jobs: list[dict[str, Any]] = json.loads(shown.stdout)
        return jobs

    @property
    def workspace(self) -> str:
        return str(self.workdir.folder / NASTY)


@pytest.fixture
def site(workdir: Workdir, monkeypatch: pytest.MonkeyPatch) -> Site:
    programs = workdir.folder / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    sent = workdir.folder / "sent"
    monkeypatch.setenv("SENT", str(sent))
    far = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2, "partition": NASTY}}
    variables = {"VALUE": NASTY, "PYTHONPATH": NASTY}
    options = {"sbatch": {"comment": NASTY}, "srun": {"comment": NASTY}}
    workdir.write(
        "far.yaml", far | {"environment": variables, "arrays": {"partition": NASTY}} | options
    )
    return Site(workdir, sent)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_asks_a_silent_slurm_once_and_says_what_it_does_not_know(site: Site) -> None:
    asked = site.workdir.folder / "asked"
    silent = f"echo $0 >>{asked}; echo 'Unable to contact slurm controller' >&2; exit 1"
    for name in ("squeue", "scontrol", "sacct", "sacctmgr", "sinfo"):
        program = site.workdir.folder / "bin" / name
        program.write_text(f"#!/bin/bash\n{silent}\n", encoding="utf-8")
        program.chmod(0o755)
    write_json(site.workdir.workspace.run("small").jobs, {"slurm": {"train": "17"}})
    shown = site.run("jobs.pipeline", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "#SBATCH" in shown.stdout
    silence = "warning: squeue: Unable to contact slurm controller; "
    assert f"{silence}this is what would be sent if none of it were in the queue\n" in shown.stderr
    assert f"{silence}Slurm's limits on time, partitions and arrays are not checked" in shown.stderr
    assert asked.read_text(encoding="utf-8").count("\n") == 1


def test_a_dry_run_prints_what_a_submission_sends_and_writes_nothing(site: Site) -> None:
    before = files_of(site.workdir.folder)
    given = (f"workspace={site.workspace}",)
    planned = site.planned("jobs.pipeline", *given)
    shown = site.run("jobs.pipeline", *given, "--dry-run").stdout
    assert files_of(site.workdir.folder) == before
    assert all(job["script"] in shown for job in planned)

    done = site.run("jobs.pipeline", *given)
    assert done.returncode == 0, done.stderr
    ids = read_json(Path(site.workspace) / "runs/small/jobs.json")["slurm"]
    names = sorted(ids, key=lambda name: int(ids[name]))
    assert names == [job["name"] for job in planned]
    assert [job["depends_on"] for job in planned] == [[], *([name] for name in names[:-1])]
    for job in planned:
        sent = (site.sent / f"{ids[job['name']]}.sh").read_text(encoding="utf-8")
        expected = job["script"]
        for name in job["depends_on"]:
            expected = expected.replace(f"JOB_ID_OF_{name}\n", f"{ids[name]}\n")
        assert sent == expected
        array = f"#SBATCH --array=0-{job['tasks'] - 1}%"
        assert (array in sent) == (job["tasks"] > 1)


def test_a_dry_run_imports_nothing_that_takes_long(site: Site) -> None:
    where = ("--cluster", str(site.workdir.folder / "far.yaml"), "--dry-run")
    words = ["pipeline", "submit", str(site.workdir.recipe_file), *where]
    program = (
        f"import sys, atexit; sys.argv = {words!r}; from jobs import command, pipeline; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); command.main(pipeline.app)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = {*ran.stderr.split()}
    assert "kit.cluster.launch" in imported
    assert not {"numpy", "torch", "xz", "http.client", "kit.tokenizer.encode"} & imported


def test_nothing_of_a_recipe_or_a_cluster_is_run_by_the_shell(site: Site) -> None:
    """Each script of the chain, run by bash with a stand-in for srun that prints its words."""
    inside = f"cluster.container={{command: [{json.dumps(NASTY)}], python: {json.dumps(NASTY)}}}"
    jobs = site.planned("jobs.pipeline", f"workspace={site.workspace}", inside)
    assert len(jobs) == STAGES
    for job in jobs:
        script = site.workdir.folder / "script.sh"
        script.write_text(job["script"], encoding="utf-8")
        ran = subprocess.run(
            ["bash", script], cwd=site.workdir.folder, capture_output=True, text=True, check=False
        )
        value, path, *arguments = ran.stdout.split("\0")
        assert value == NASTY
        assert path.endswith(f":{NASTY}")
        index = "%A_%a" if job["tasks"] > 1 else "%j"
        logs = f"{site.workspace}/runs/small/logs/{job['name']}/{index}_%t_log.out"
        assert arguments[arguments.index("--output") + 1] == logs
        assert f"--comment={NASTY}" in arguments
        at = arguments.index(NASTY)
        assert arguments[at : at + 5] == [NASTY, NASTY, "-u", "-m", "kit.cluster.task"]
        assert arguments[at + 5 : at + 7] == [f"{site.workspace}/runs/small", job["name"]]
    assert not list(site.workdir.folder.rglob("hole"))


def test_the_trap_gets_every_word_whole(site: Site) -> None:
    """The script runs to its end: the Python of the trap prints its words, and nothing is executed."""
    python = site.workdir.folder / "a 'b' $(touch hole)"
    python.write_text("#!/bin/bash\nprintf '%s\\0' \"$@\" > trapped\n", encoding="utf-8")
    python.chmod(0o755)
    (site.workdir.folder / "bin" / "srun").write_text("#!/bin/bash\nexit 7\n", encoding="utf-8")
    given = (f"workspace={site.workspace}", f"cluster.python={json.dumps(str(python))}")
    (job,) = site.planned("jobs.train", *given)
    script = site.workdir.folder / "script.sh"
    script.write_text(job["script"], encoding="utf-8")
    ran = subprocess.run(["bash", script], cwd=site.workdir.folder, check=False)
    trapped = (site.workdir.folder / "trapped").read_text(encoding="utf-8")
    words = ["-m", "kit.cluster.requeue", f"{site.workspace}/runs/small", "train", "7"]
    assert (trapped.split("\0")[:-1], ran.returncode) == (words, 0)
    assert not list(site.workdir.folder.rglob("hole"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["Invalid job array specification"],
            "Invalid job array specification; lower corpus.tasks, or submit the chain in parts, as with "
            "--until",
        ),
        (
            [
                "QOSMaxSubmitJobPerUserLimit",
                "Job violates accounting/QOS policy (job submit limit)",
            ],
            "Job violates accounting/QOS policy (job submit limit) (QOSMaxSubmitJobPerUserLimit); lower "
            "corpus.tasks, or submit the chain in parts, as with --until",
        ),
        (["Invalid qos specification"], "Invalid qos specification"),
    ],
    ids=["MaxArraySize", "MaxSubmitJobs", "no limit"],
)
def test_an_array_that_sbatch_refuses_is_told_with_the_key_to_lower(
    site: Site, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.setenv("REFUSES", "--array=0-2%")
    monkeypatch.setenv("WORDS", "\n".join(f"sbatch: error: {line}" for line in words))
    where = ("--cluster", str(site.workdir.folder / "far.yaml"))
    given = ["submit", str(site.workdir.recipe_file), "corpus.tasks=3", *where]
    with pytest.raises(ClusterError) as refused:
        CliRunner().invoke(pipeline.app, given, catch_exceptions=False)
    assert str(refused.value) == (f"cluster far: sbatch refuses preprocess: sbatch: error: {told}")
    run = site.workdir.workspace.run("small")
    assert not run.jobs.exists()
    written = [path for path in run.job_logs("preprocess").iterdir() if path.is_file()]
    assert written == []


def test_json_is_for_a_dry_run(workdir: Workdir) -> None:
    given = ["submit", str(workdir.recipe_file), "--json"]
    with pytest.raises(ConfigError, match="--json: only a dry run prints JSON here; add --dry-run"):
        CliRunner().invoke(pipeline.app, given, catch_exceptions=False)
    assert not workdir.workspace.root.exists()


def test_a_dry_run_on_this_machine_has_no_scripts(workdir: Workdir) -> None:
    given = ("submit", str(workdir.recipe_file), "--dry-run", "--json")
    (job,) = json.loads(workdir.run("jobs.download", *given).stdout)
    assert job == {"name": "download", "tasks": 2, "depends_on": [], "note": None, "script": None}
