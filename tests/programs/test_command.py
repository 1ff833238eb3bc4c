"""The command line: exit codes, one line for a mistake, and what leaves no trace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kit.config.run import run_of
from kit.relay import resolve
from kit.store.files import read_json, write_json
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.conftest import Workdir


HEAVY = ("torch", "deepspeed", "mlflow", "transformers", "tokenizers", "tensorboard", "numpy")
JOBS = ("download", "preprocess", "tokenizer", "tokenize", "train", "evaluate", "export",
        "generate", "pipeline")  # fmt: skip


def mistake(done: CompletedProcess[str]) -> str:
    """The one line on stderr of a command that was answered with exit code 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def refused(workdir: Workdir, module: str, verb: str, *arguments: str) -> str:
    return mistake(workdir.run(module, verb, str(workdir.recipe_file), *arguments))


def done(workdir: Workdir, module: str, verb: str, *arguments: str) -> str:
    """The output of a command that succeeds."""
    found = workdir.run(module, verb, str(workdir.recipe_file), *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def files_of(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_an_unknown_key_is_a_mistake(workdir: Workdir) -> None:
    assert "did you mean steps?" in refused(workdir, "jobs.pipeline", "show", "training.step=3")
    assert "did you mean arrays?" in refused(workdir, "jobs.train", "status", "cluster.array=3")


def test_several_mistakes_are_a_line_each(workdir: Workdir) -> None:
    found = workdir.run(
        "jobs.pipeline", "show", str(workdir.recipe_file), "steps=3", "cluster.steps=3"
    )
    assert found.returncode == 2
    assert found.stderr.splitlines() == [
        "error: 2 mistakes",
        "  override 'steps=3': unknown key steps; did you mean training.steps?",
        "  override 'cluster.steps=3': unknown key steps; did you mean training.steps?",
    ]


def test_a_missing_recipe_is_a_mistake(workdir: Workdir) -> None:
    workdir.recipe_file.unlink()
    assert "no such file" in refused(workdir, "jobs.pipeline", "run")


@pytest.mark.parametrize("verb", ["run", "submit"])
def test_a_missing_dump_is_a_mistake(workdir: Workdir, verb: str) -> None:
    workdir.dump.unlink()
    line = refused(workdir, "jobs.download", verb)
    assert "corpus.sources.jawiki.location=" in line


def test_a_dump_that_is_none_is_a_mistake(workdir: Workdir) -> None:
    workdir.dump.write_bytes(b"<html>404</html>")
    found = workdir.run("jobs.download", "run", str(workdir.recipe_file))
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    progress, line = found.stderr.splitlines()
    assert re.fullmatch(r"\S+ \d\d:\d\d:\d\d download: jawiki \(1 of 2\)", progress)
    assert "dump.xml.bz2: not a .bz2 file, whatever its name says (a web page" in line


def test_a_stage_on_a_terminal_has_a_bar_and_no_clock(workdir: Workdir) -> None:
    outer, inner = os.openpty()
    with os.fdopen(inner, "w") as terminal, os.fdopen(outer) as screen:
        program = [sys.executable, "-m", "jobs.download", "run", str(workdir.recipe_file)]
        subprocess.run(program, cwd=ROOT, stderr=terminal, check=True)
        terminal.close()
        text = ""
        with contextlib.suppress(OSError):  # the end of a terminal
            while line := screen.readline():
                text += line
    assert re.search(r"download .*1 of 2 units, .*/\w+, .* left, web", text)
    assert not re.search(r"\d\d:\d\d:\d\d download", text)


def test_an_unknown_cluster_is_a_mistake(workdir: Workdir) -> None:
    line = refused(workdir, "jobs.pipeline", "status", "--cluster", "mdy")
    assert "known clusters: " in line
    assert "local" in line


def test_a_recipe_that_is_no_utf8_is_a_mistake(workdir: Workdir) -> None:
    workdir.recipe_file.write_bytes("name: 駅伝".encode("euc-jp"))
    assert "not valid UTF-8" in refused(workdir, "jobs.pipeline", "show")


def test_another_recipe_for_a_run_that_is_trained_is_a_mistake(workdir: Workdir) -> None:
    done(workdir, "jobs.download", "run")
    done(workdir, "jobs.download", "run", "training.steps=11")
    run = workdir.workspace.run("small")
    write_json(run.attempt(1).start, {"from_step": 0})
    line = refused(workdir, "jobs.download", "run")
    assert "training.steps: 11 -> 10" in line
    assert read_json(run.recipe)["training"]["steps"] == 11
    done(workdir, "jobs.download", "run", "name=other")


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("preprocess", "download"), ("tokenizer", "download"), ("tokenize", "download"),
        ("evaluate", "train"), ("export", "train"),
    ],
)  # fmt: skip
def test_a_stage_before_its_predecessor_is_a_mistake(
    workdir: Workdir, module: str, remedy: str
) -> None:
    line = refused(workdir, f"jobs.{module}", "run")
    assert f"run {sys.executable} -m jobs.{remedy} first" in line


def test_text_of_a_model_that_is_not_exported_is_a_mistake(workdir: Workdir) -> None:
    line = refused(workdir, "jobs.generate", "text", "--prompt", "霧浜県の")
    assert f"run {sys.executable} -m jobs.export first" in line


def test_show_prints_the_resolved_recipe_and_cluster(workdir: Workdir) -> None:
    shown = json.loads(done(workdir, "jobs.pipeline", "show", "training.steps=12"))
    assert shown["recipe"] == workdir.recipe("training.steps=12").model_dump(mode="json")
    assert shown["recipe"]["corpus"]["segmenter_version"].startswith("fugashi ")
    assert shown["cluster"]["name"] == "local"
    assert not workdir.workspace.root.exists()


def test_status_as_json_is_one_object(workdir: Workdir) -> None:
    before = json.loads(done(workdir, "jobs.preprocess", "status", "--json"))
    assert before["stage"] == "preprocess"
    assert f"run {sys.executable} -m jobs.download first" in before["waits"]
    assert not workdir.workspace.root.exists()
    done(workdir, "jobs.download", "run")
    after = json.loads(done(workdir, "jobs.download", "status", "--json"))
    assert after == {
        "stage": "download", "done": 2, "missing": 0, "stale": 0, "broken": 0, "state": "done",
        **dict.fromkeys(("reason", "since", "unit", "job", "log", "next", "starts", "ends")),
        "tail": [], "faults": [], "tasks_running": 0,
    }  # fmt: skip
    waiting = json.loads(done(workdir, "jobs.preprocess", "status", "--json"))
    assert waiting["done"] == 0
    assert waiting["missing"] >= 3


def test_status_of_the_relay_as_json_is_one_object(workdir: Workdir) -> None:
    found = json.loads(done(workdir, "jobs.pipeline", "status", "--json"))
    assert list(found["stages"]) == [
        "download", "preprocess", "count", "merge", "candidates", "tokenizer", "tokenize", "train",
        "evaluate", "export", "generate",
    ]  # fmt: skip
    assert {stage["state"] for stage in found["stages"].values()} == {"not begun"}
    begin = f"{sys.executable} -m jobs.pipeline run {workdir.recipe_file}"
    assert {stage["next"] for stage in found["stages"].values()} == {begin}
    unknown = ("reason", "since", "unit", "job", "log")
    of_training = ("saved", "loss", "tokens_per_second", "last_step")
    assert found["stages"]["train"] == {
        "done": 0, "missing": 1, "state": "not begun", "tail": [], "faults": [], "next": begin,
        "tasks_running": 0, "starts": None, "ends": None,
        "attempts": 0, "step": 0, "steps": 10, "inexact": [], **dict.fromkeys((*unknown, *of_training)),
    }  # fmt: skip
    assert found["tensorboard"] is None
    shown = done(workdir, "jobs.pipeline", "status")
    assert begin in shown
    assert "TensorBoard" not in shown
    assert "mlflow" not in shown.lower()


def test_status_with_verify_finds_a_flipped_byte(workdir: Workdir) -> None:
    done(workdir, "jobs.download", "run")
    time = workdir.web.stat().st_mtime_ns
    raw = bytearray(workdir.web.read_bytes())
    raw[-1] ^= 0xFF
    workdir.web.write_bytes(bytes(raw))
    os.utime(workdir.web, ns=(time, time))
    assert json.loads(done(workdir, "jobs.download", "status", "--json"))["broken"] == 0
    found = json.loads(done(workdir, "jobs.download", "status", "--json", "--verify"))
    assert found["broken"] == 1
    assert found["faults"][0]["why"] == f"{workdir.web}: bytes differ from its manifest"


@pytest.mark.parametrize("module", ["jobs.pipeline", "jobs.download", "jobs.train"])
@pytest.mark.parametrize("verb", ["run", "submit"])
def test_a_dry_run_writes_nothing(workdir: Workdir, module: str, verb: str) -> None:
    before = files_of(workdir.folder)
    shown = done(workdir, module, verb, "--dry-run")
    assert module.split(".")[1] in shown or "download" in shown
    assert files_of(workdir.folder) == before


def test_a_stage_that_is_done_has_nothing_to_submit(workdir: Workdir) -> None:
    done(workdir, "jobs.download", "run")
    assert done(workdir, "jobs.download", "submit") == "nothing to submit: everything is done\n"


@pytest.mark.parametrize("verb", ["run", "submit"])
def test_texts_that_were_cut_by_another_recipe_are_not_preprocessed(
    workdir: Workdir, verb: str
) -> None:
    done(workdir, "jobs.download", "run")
    line = refused(workdir, "jobs.preprocess", verb, "corpus.unit_mb=0.001")
    assert line == (
        "error: corpus.sources: changed since the texts were cut; run "
        f"{sys.executable} -m jobs.download first"
    )


def test_running_a_stage_on_a_cluster_says_to_submit(workdir: Workdir) -> None:
    cluster = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
    path = workdir.write("far.yaml", cluster)
    for module in ("jobs.pipeline", "jobs.train"):
        line = refused(workdir, module, "run", "--cluster", str(path))
        assert "use submit" in line


def test_submitting_where_there_is_no_slurm_is_a_mistake(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir.folder / "bin").mkdir()
    monkeypatch.setenv("PATH", str(workdir.folder / "bin"))
    cluster = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
    path = workdir.write("far.yaml", cluster)
    line = refused(workdir, "jobs.pipeline", "submit", "--cluster", str(path))
    assert "is this a login node of a Slurm cluster?" in line
    assert not workdir.workspace.root.exists()


def test_a_run_directory_holds_all_a_job_reads(workdir: Workdir) -> None:
    done(workdir, "jobs.download", "run")
    run = workdir.workspace.run("small")
    assert read_json(run.recipe) == workdir.recipe().model_dump(mode="json")
    assert read_json(run.cluster)["name"] == "local"
    assert (run.code / "kit" / "errors.py").is_file()
    assert any(line.startswith("torch==") for line in run.environment.read_text().splitlines())
    identity = read_json(run.identity)["id"]
    done(workdir, "jobs.download", "run")
    assert read_json(run.identity)["id"] == identity


def test_a_workspace_that_is_a_file_is_a_mistake(workdir: Workdir) -> None:
    (workdir.folder / "work").write_text("in the way")
    assert "work" in refused(workdir, "jobs.download", "run")


def test_a_text_that_is_not_utf8_is_a_mistake(workdir: Workdir) -> None:
    workdir.web.write_bytes("駅伝\n".encode("euc-jp"))
    done(workdir, "jobs.download", "run")
    found = workdir.run("jobs.preprocess", "run", str(workdir.recipe_file))
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert found.stderr.splitlines()[-1].startswith("error: ")
    assert "web.txt, line 1: byte 1" in found.stderr


@pytest.mark.parametrize("arguments", [("status",), ("run", "--dry-run")])
def test_looking_at_a_run_changes_nothing_of_it(
    workdir: Workdir, arguments: tuple[str, ...]
) -> None:
    run = workdir.workspace.run("small")
    write_json(run.attempt(1).start, {"from_step": 0})
    broken = run.checkpoints / "step-00000005.attempt-0001"
    write_json(broken / "checkpoint.json", {"files": {"weights.pt": {"size": 3, "xxh3": "0"}}})
    before = files_of(workdir.folder)
    done(workdir, "jobs.evaluate", *arguments)
    assert files_of(workdir.folder) == before


def test_a_corpus_that_another_unfinished_run_is_trained_on_is_not_made_anew(
    workdir: Workdir,
) -> None:
    workdir.make(workdir.recipe(), "preprocess")
    done(workdir, "jobs.tokenizer", "run")
    write_json(workdir.workspace.run("small").attempt(1).start, {"from_step": 0})
    found = workdir.run(
        "jobs.tokenizer", "run", str(workdir.recipe_file), "name=other", "tokenizer.min_frequency=3"
    )
    assert found.returncode == 2
    assert "the unfinished run small trains on it" in found.stderr
    assert "tokenizer: 1 done" in done(workdir, "jobs.tokenizer", "status")


@pytest.mark.parametrize("job", JOBS)
def test_the_help_of_a_job_imports_nothing_heavy(job: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"jobs.{job}", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "jobs.command" in loaded
    assert not loaded & set(HEAVY)
    assert "Usage" in done.stdout


def test_a_refused_amendment_and_a_refused_fork_are_one_line_and_exit_code_2(
    workdir: Workdir,
) -> None:
    project = resolve.load(workdir.recipe_file)
    recipe, cluster = project.recipe, project.cluster
    run = run_of(recipe)
    write_json(run.recipe, recipe.model_dump(mode="json"))
    write_json(run.cluster, cluster.model_dump(mode="json"))
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    for arguments, line in (
        (("amend", str(run.root), "training.seed=1"), "error: training.seed: "),
        (("fork", str(run.root), "--at", "7", "name=on"), "error: --at 7: "),
    ):
        found = workdir.run("jobs.train", *arguments)
        assert mistake(found).startswith(line)
        assert found.stdout == ""
