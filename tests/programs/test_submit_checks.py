"""What jobs would find out is told when they are submitted."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from kit.errors import ConfigError
from kit.relay import submit_checks
from kit.relay.resolve import load
from kit.relay.stages import stages_of
from tests.relay import DEMO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

# As Slurm 22.05 prints it, but for what is left out.
SCONTROL = """#!/bin/sh
case "$*" in
"show config")
    echo "Configuration data as of 2026-11-29T01:02:03"
    echo "MaxArraySize            = 11"
    echo "MaxJobCount             = 10000" ;;
"--all --oneliner show partition")
    echo "PartitionName=cpu Default=YES MaxTime=UNLIMITED TotalNodes=9"
    echo "PartitionName=gpu Default=NO MaxTime=1-02:30:00 TotalNodes=2" ;;
*) exit 1 ;;
esac
"""
HOPELESS = (
    "cluster.training.ranks_per_node=3",
    "training.warmup_steps=11",
    "training.precision=auto",
    "training.gradient_dtype=bf16",
    "training.minimum_learning_rate=0.01",
)
TOLD = [
    "error: 4 mistakes",
    "  training.global_batch=8 is not a multiple of micro_batch x ranks = 2 x 3; change one of the three",
    "  training.gradient_dtype=bf16: gradients of training.precision=fp32 can be accumulated in fp32 only",
    "  training.minimum_learning_rate=0.01: above training.learning_rate=0.001, so the learning rate would "
    "rise where it should decay; lower it",
    "  training.warmup_steps=11: the run ends before the warm-up does, at step 10; lower it, or raise "
    "training.steps",
]


def problems(*overrides: str) -> list[str]:
    """What the jobs of the demo with these overrides would fail by."""
    project = load(DEMO, list(overrides))
    jobs = [stage.job(project.recipe) for stage in stages_of(project.recipe)]
    try:
        submit_checks.check(project, jobs)
    except ConfigError as error:
        return [*error.args]
    return []


@pytest.mark.parametrize(
    "command",
    [("jobs.pipeline", "submit", "--dry-run"), ("jobs.pipeline", "run"), ("jobs.train", "submit")],
    ids=" ".join,
)
def test_what_training_would_fail_by_is_told_before_anything_runs(
    workdir: Workdir, command: tuple[str, ...]
) -> None:
    module, *arguments = command
    found = workdir.run(module, *arguments, str(workdir.recipe_file), *HOPELESS)
    assert found.returncode == 2
    assert found.stderr.splitlines() == TOLD
    assert found.stdout == ""
    assert not workdir.workspace.root.exists()


def test_what_slurm_has_no_place_for_is_told_with_the_key_to_change(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = workdir.folder / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(SCONTROL, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    training = {"partition": "gpu", "ranks_per_node": 2, "nodes": 2, "minutes": 1590}
    cluster = {"name": "far", "kind": "slurm", "training": training}
    path = workdir.write("far.yaml", cluster)
    tasks = ("corpus.tasks=12", "tokenizer.tasks=11")
    given = ("--cluster", str(path), *tasks, "training.global_batch=24")
    kept = workdir.run("jobs.pipeline", "submit", "--dry-run", str(workdir.recipe_file), *given)
    assert (kept.returncode, kept.stderr) == (0, "")
    line = "preprocess: 11 tasks instead of 12, each with the units of up to 2: MaxArraySize=11"
    assert line in kept.stdout.splitlines()
    assert "#SBATCH --array=0-11%" not in kept.stdout
    given = (
        *given, "cluster.training.nodes=3",
        "cluster.training.minutes=1591", "cluster.single.partition=gpuu",
        "cluster.training.warning_seconds=95460",
    )  # fmt: skip
    found = workdir.run("jobs.pipeline", "submit", "--dry-run", str(workdir.recipe_file), *given)
    assert found.returncode == 2
    assert found.stderr.splitlines() == [
        "error: 4 mistakes",
        "  cluster.training.warning_seconds=95460: the time limit is cluster.training.minutes=1591, so "
        "each attempt would end as it begins; lower the first or raise the second",
        "  cluster.single.partition=gpuu: Slurm has no such partition; available: cpu, gpu",
        "  cluster.training.minutes=1591: partition gpu has a limit of 1590 minutes (MaxTime), so the job "
        "would never start; lower it",
        "  cluster.training.nodes=3: partition gpu has 2 nodes; lower it",
    ]


def test_steps_and_blocks_are_known_once_the_tokens_are_there(tokens: Path) -> None:
    here = f"workspace={tokens}"
    epoch = (here, "training.steps=null", "training.epochs=0.5")
    assert problems(here) == problems(*epoch) == []
    (line,) = problems(*epoch, "training.warmup_steps=5000")
    assert "the run ends before the warm-up does, at step " in line
    assert line.endswith("; lower it, or raise training.epochs")
    found = problems(here, "model.n_positions=100000")
    lines = [line for line in found if "host memory" not in line]  # of this machine
    assert ["less than a block of" in line for line in lines] == [True, True]
    assert [line.split(":")[0] for line in lines] == ["corpus.sources", "corpus.held_out=0.08"]


def test_a_run_that_has_begun_keeps_the_warm_up_it_has(tmp_path: Path) -> None:
    long = (f"workspace={tmp_path}", "training.warmup_steps=101")
    assert len(problems(*long)) == 1
    assert problems(f"workspace={tmp_path}", "training.warmup_steps=100") == []
    load(DEMO, [*long]).run.attempts.mkdir(parents=True)
    assert problems(*long) == []


def test_a_base_model_of_a_run_that_is_no_fork(tmp_path: Path) -> None:
    (problem,) = problems(f"workspace={tmp_path}", "release.base_model=owner/raccoon")
    assert problem.startswith("release.base_model=owner/raccoon has no effect: ")
    assert problem.endswith("is not a fork; leave it out")


def test_a_dump_and_no_wikiextractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wikiextractor", None)
    (line,) = problems(f"workspace={tmp_path}")
    assert line.startswith("corpus.sources.jawiki.kind=wikipedia: wikiextractor is not installed;")


def test_gguf_files_and_no_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    workspace = f"workspace={tmp_path}"
    assert problems(workspace) == []
    assert problems(workspace, "release.gguf=[f16, q8_0]") == [
        "release.gguf=[f16,q8_0]: gguf is not installed; pip install 'ekiden[gguf]'"
    ]


LIGER = "training.loss_kernel=liger"


def test_ligers_kernels_and_no_gpu_or_package_or_fp16(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace = f"workspace={tmp_path}"
    assert problems(workspace, LIGER) == [
        "training.loss_kernel=liger: it needs a GPU, and device is cpu; leave it out"
    ]
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    gpu = (workspace, LIGER, "cluster.device=cuda", "training.precision=bf16")
    missing = (
        "training.loss_kernel=liger: liger-kernel is not installed; pip install 'ekiden[liger]', or "
        "leave it out"
    )
    assert missing in problems(*gpu)
    installed = ModuleType("liger_kernel")
    installed.__spec__ = ModuleSpec("liger_kernel", None)
    monkeypatch.setitem(sys.modules, "liger_kernel", installed)
    assert not any("loss_kernel" in line for line in problems(*gpu))


def test_parquet_and_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    source = f"corpus.sources={{web: {{kind: parquet, location: {tmp_path / 'a.parquet'}}}}}"
    (line,) = problems(f"workspace={tmp_path}", source)
    assert line.endswith("kind=parquet: pyarrow is not installed; pip install 'ekiden[parquet]'")


def test_filters_whose_file_or_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = problems(f"workspace={tmp_path}", "corpus.filters.words.bad.file=no-such.txt")
    assert "no-such.txt: No such file or directory; name a file of words" in line
    for key in ("corpus.remove", "corpus.filters.urls.bad.file"):
        (line,) = problems(f"workspace={tmp_path}", f"{key}=no-such.txt")
        assert line.startswith(f"{key}=")
        assert "no-such.txt: No such file or directory;" in line
    monkeypatch.setitem(sys.modules, "hojichar", None)
    (line,) = problems(f"workspace={tmp_path}", "corpus.filters.preset=llm-jp-v1")
    assert line.startswith("corpus.filters.hojichar.ads: HojiChar is not installed; pip install")


def test_compiling_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (line,) = problems(f"workspace={tmp_path}", "training.compile=true")
    assert line.startswith("training.compile=true: no no-such-compiler on the PATH")


def test_sqlite_on_a_file_system_of_several_hosts_is_warned_of(tmp_path: Path) -> None:
    def warned(kind: str, *overrides: str, cluster: str = "mdx") -> str | None:
        mounts = f"36 35 98:0 / / rw - {kind} /dev/root rw"
        project = load(DEMO, [f"workspace={tmp_path}", *overrides], cluster)
        return submit_checks.shared_sqlite(project, mounts)

    line = warned("lustre")
    assert line is not None
    assert line.startswith(f"{tmp_path}/mlflow.db: on lustre, where two hosts")
    assert warned("ext4") is None
    assert warned("lustre", "tracking.mlflow_by=sync") is None
    assert warned("lustre", "tracking.mlflow=http://localhost:5000") is None
    assert warned("lustre", cluster="local") is None


def test_checkpoints_that_no_disk_here_can_hold(tmp_path: Path) -> None:
    wide = ("model.n_layer=4000", "model.n_embd=65536", "training.keep=100")
    line = submit_checks.little_room(load(DEMO, [f"workspace={tmp_path / 'not' / 'yet'}", *wide]))
    assert line is not None
    assert line.startswith(f"{tmp_path}: ")
    assert "101 checkpoints need " in line
    assert submit_checks.little_room(load(DEMO, [f"workspace={tmp_path}"])) is None


def test_what_may_not_fit_is_warned_of_and_what_cannot_is_refused(workdir: Workdir) -> None:
    submit = ("jobs.train", "submit", "gpt2-xl-ja-article", "--cluster", "mdx", "--dry-run")
    here = f"workspace={workdir.folder / 'work'}"
    whole = ("training.loss_chunk=null", "training.deepspeed=zero2")
    warned = workdir.run(*submit, here, *whole)
    assert warned.returncode == 0, warned.stderr
    assert "warning: training.micro_batch=3: a rank needs 42.3 GB, and a100 has 40" in warned.stderr
    refused = workdir.run(*submit, here, "training.micro_batch=6")
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "training.micro_batch=6: a rank needs 69.4 GB, and a100 has 40 GB" in line
