"""`ekiden pipeline doctor`: what it finds, what it masks, and that nothing makes it fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit import __version__
from kit.relay import doctor as kit_doctor
from kit.relay import machine, resolve
from kit.store.files import write_json
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.conftest import Workdir

SECRET = "s3cr3t"
SETTINGS = """Configuration data as of 2026-11-29T10:00:00
JobRequeue              = 1
KillWait                = 30 sec
MaxArraySize            = 1001
PreemptMode             = REQUEUE
PreemptParameters       = (null)
PreemptType             = preempt/partition_prio
SlurmctldParameters     = preempt_send_user_signal
SLURM_VERSION           = 22.05.8
SlurmUser               = slurm(64030)
StateSaveLocation       = /home/ann/state
"""
SLURM = f"""#!/bin/sh
case "$*" in
  "show config") cat <<'END'
{SETTINGS}END
  ;;
  *partition*) echo "PartitionName=gpu MaxTime=3-00:00:00 GraceTime=120 PreemptMode=REQUEUE State=UP" ;;
esac
"""
GPUS = """#!/bin/sh
case "$*" in *--format=csv,noheader*) for gpu in 0 1; do
  echo "NVIDIA A100-SXM4-40GB, 40960 MiB, 580.65.06, 8.0"
done ;; esac
"""
FAILS = "#!/bin/sh\necho 'it is broken' >&2\nexit 9\n"


def doctor(
    *arguments: str, programs: Path | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """The command, with programs that stand in for the machine's."""
    path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "jobs.pipeline", "doctor", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": path, "EKIDEN_TEST_SECRET": SECRET, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def found(*arguments: str, programs: Path | None = None) -> dict[str, dict[str, Any]]:
    done = doctor(*arguments, "--json", programs=programs)
    assert (done.returncode, done.stderr) == (0, "")
    facts: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return facts


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    (folder / name).chmod(0o755)


def test_versions_machine_and_disk_are_told(programs: Path) -> None:
    put(programs, "nvidia-smi", GPUS)
    put(programs, "scontrol", SLURM)
    facts = found(programs=programs)
    assert [*facts] == ["versions", "machine", "Slurm", "workspace"]
    versions = facts["versions"]
    assert versions["ekiden"].startswith(f"{__version__}, ")
    assert versions["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert versions["transformers"].split(".")[0].isdecimal()
    assert {*machine.PACKAGES} < {*versions}
    assert "GB" in facts["machine"]["memory"]
    assert facts["machine"]["GPUs"] == [
        "2 x NVIDIA A100-SXM4-40GB, 40960 MiB, compute capability 8.0, driver 580.65.06"
    ]
    slurm = facts["Slurm"]
    assert (slurm["version"], slurm["PreemptMode"]) == ("22.05.8", "REQUEUE")
    assert (slurm["KillWait"], slurm["MaxArraySize"]) == ("30 sec", "1001")
    assert slurm["MinJobAge"] is None
    assert "free of" in facts["workspace"]["space"]
    assert "free of" in facts["workspace"]["inodes"]
    assert not any(
        "unknown" in str(value) for section in facts.values() for value in section.values()
    )


def test_the_partitions_of_the_cluster_file_are_told(programs: Path) -> None:
    put(programs, "scontrol", SLURM)
    slurm = found("gpt2-xl-ja", "--cluster", "mdx", programs=programs)["Slurm"]
    told = {name: text for name, text in slurm.items() if name.startswith("partition ")}
    assert told["partition gpu"].startswith(
        "MaxTime=3-00:00:00, GraceTime=120, PreemptMode=REQUEUE"
    )
    assert {*told.values()} - {told["partition gpu"]} <= {"Slurm has no such partition"}


def test_a_probe_that_fails_says_so_and_spares_the_others(programs: Path) -> None:
    for name in ("nvidia-smi", "scontrol", "git", "jumanpp"):
        put(programs, name, FAILS)
    facts = found(programs=programs)
    assert facts["machine"]["GPUs"] == "unknown: OSError: nvidia-smi: it is broken"
    assert facts["Slurm"] == {"scontrol": "unknown: scontrol show: it is broken"}
    assert "it is broken" in facts["machine"]["Juman++"]
    assert "GB" in facts["machine"]["memory"]
    put(programs, "nvidia-smi", "#!/bin/sh\necho nonsense\n")
    assert "unknown: ValueError" in found(programs=programs)["machine"]["GPUs"]


def test_neither_torch_nor_what_imports_it_is_imported() -> None:
    program = """
import atexit, sys
from jobs import pipeline
from jobs.command import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
main(pipeline.app)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "kit.relay.doctor" in done.stderr.split()
    assert not {"torch", "transformers", "deepspeed", "mlflow"} & {*done.stderr.split()}


@pytest.fixture
def failed(workdir: Workdir) -> Workdir:
    """A relay that ended at a text that is no UTF-8."""
    workdir.web.write_bytes("駅伝の襷。\n".encode() + b"\xff\xfe\n" + "霧浜県。\n\n".encode() * 40)
    done = workdir.run("jobs.pipeline", "run", str(workdir.recipe_file))
    assert done.returncode == 2, done.stderr
    return workdir


def test_how_a_run_failed_is_told_without_secrets(failed: Workdir) -> None:
    server = f"tracking.mlflow=http://ann:{SECRET}@127.0.0.1:9/"
    words = (str(failed.recipe_file), server)
    run = found(*words)["run"]
    stages = dict(line.split(": ", 1) for line in run["stages"] if not line.startswith(" "))
    assert stages["download"].endswith("done")
    assert (
        stages["preprocess"].startswith(("incomplete", "failed"))
        or "failed" in stages["preprocess"]
    )
    assert run["MLflow"] == "http://***@127.0.0.1:9/"
    assert "web.txt" in " ".join(run["mistakes"])
    assert run["packages"] == "as at submission"
    shown = doctor(*words)
    assert shown.returncode == 0
    assert not shown.stderr
    for text in (shown.stdout, doctor(*words, "--json").stdout):
        assert SECRET not in text
        assert "EKIDEN_TEST_SECRET" not in text
        assert str(Path.home()) + "/" not in text


def test_the_checks_of_the_last_start_are_told(failed: Workdir) -> None:
    run = failed.workspace.run("small")
    check = {"name": "clock", "result": "ok", "found": "agrees", "remedy": ""}
    bad = {"name": "gpu_ecc", "result": "bad", "found": "GPU 3: 1 error", "remedy": "reset it"}
    for number, node, verdict, checks in (
        (0, "mdx2", "ok", [check]), (1, "mdx1", "bad", [check, bad]),
    ):  # fmt: skip
        record = {"job": f"7.{number}", "node": node, "verdict": verdict, "checks": checks}
        path = run.preflight("train", f"7.{number}", node)
        write_json(path, record | {"seconds": 0.1, "time": float(number)})
    found = kit_doctor.facts(partial(resolve.load, failed.recipe_file, refuse=False))["run"]
    shutil.rmtree(run.job_logs("train"))
    assert found["preflight"] == ["job 7.1 on mdx1: bad, 2 checks\n  bad gpu_ecc: GPU 3: 1 error"]


DAMAGES = {
    "requeues.jsonl": "{\n",
    "jobs.json": "[]",
    "recipe.json": "{}",
    "cluster.json": "nonsense",
    "environment.txt": "\x00",
    "amendments.jsonl": "3\n",
    "attempts/0001/end.json": "nonsense",
    "attempts/0001/start.json": "{}",
    "attempts/0001/preflight-mdx1.json": "{}",
    "attempts/0001/ledger.jsonl": "{}\n",
    "logs/train/failure.json": "[]",
}


def test_a_damaged_run_is_told_and_not_fallen_over(
    failed: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failed.workspace.run("small").root
    for name, text in DAMAGES.items():
        path = run / name
        before = path.read_bytes() if path.is_file() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for given in (failed.recipe_file, run):
            kit_doctor.show(kit_doctor.facts(partial(resolve.load, given, [], None, refuse=False)))
            assert "\nrun:\n" in capsys.readouterr().out
        path.unlink()
        if before is not None:
            path.write_bytes(before)


def test_a_recipe_that_cannot_be_read_is_told_beside_the_rest(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: [", encoding="utf-8")
    for given in ("mine.yaml", "./"):
        done = doctor(given, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "recipe " in done.stdout.partition("\nrun:\n")[2]
