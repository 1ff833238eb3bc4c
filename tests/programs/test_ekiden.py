"""The command `ekiden`: what it adds to the jobs, and that both ways of calling them are one."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from jobs import ekiden
from jobs.command import new_app
from kit import __version__
from kit.run import directory
from kit.store.files import read_json, write_json
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

GROUP: Any = typer.main.get_command(ekiden.build(new_app))
COMMANDS = {job: GROUP.get_command(None, job) for job in ekiden.JOBS}
VERBS = [(job, verb) for job in COMMANDS for verb in getattr(COMMANDS[job], "commands", [None])]


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python -m ARGUMENTS`."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def help_of(capsys: pytest.CaptureFixture[str], words: list[str], option: str) -> str:
    GROUP.main([*words, option], prog_name="ekiden", standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize(("job", "verb"), VERBS)
def test_the_help_of_a_verb_has_an_example_that_can_be_typed(
    job: str, verb: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [job, *([verb] if verb else [])]
    said = help_of(capsys, words, "-h")
    assert help_of(capsys, words, "--help") == said
    called = " ".join(["ekiden", *words])
    assert said.startswith(f"Usage: {called} ")
    example = re.search(rf"^Example:\n  {called} (.+)\n\Z", said, re.MULTILINE)
    assert example is not None, said
    command = COMMANDS[job].commands[verb] if verb else COMMANDS[job]
    with command.make_context(called, shlex.split(example[1])) as context:  # else a UsageError
        assert context.params


@pytest.mark.parametrize(("job", "verb"), VERBS)
def test_the_help_of_a_verb_is_about_that_verb(job: str, verb: str | None) -> None:
    texts = {
        (one, name): (COMMANDS[one].commands[name] if name else COMMANDS[one]).help
        for one, name in VERBS
    }
    text = texts.pop((job, verb))
    assert text
    assert text not in texts.values()


def test_every_job_is_one_of_the_command() -> None:
    shared = {
        "__init__", "command", "ekiden", "ending", "guard", "live", "release", "services", "stage",
        "submitted",
    }  # fmt: skip
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} - shared == {*ekiden.JOBS}
    said = run("jobs.ekiden", "--help").stdout
    assert re.findall(r"^  (\w+)  ", said.partition("Commands:")[2], re.MULTILINE) == [*ekiden.JOBS]


def test_only_the_job_that_is_asked_for_is_imported() -> None:
    program = """
import atexit, sys
from jobs import ekiden
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
ekiden.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "train", "-h"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stderr.split())
    assert "jobs.train" in loaded
    assert not loaded & {"jobs.tokenizer", "torch", "numpy", "rich"}


def test_the_version_is_that_of_the_kit() -> None:
    assert run("jobs.ekiden", "--version").stdout == f"ekiden {__version__}\n"


def test_what_is_wrong_is_said_alike_by_both_ways(workdir: Workdir) -> None:
    for words in (
        ("pipeline", "show", "nope.yaml"),
        ("pipeline", "show", str(workdir.recipe_file), "training.step=3"),
        ("tokenizer", "report", str(workdir.recipe_file), "cluster.device=cuda"),
    ):
        one, other = run(f"jobs.{words[0]}", *words[1:]), run("jobs.ekiden", *words)
        assert (one.returncode, other.returncode) == (2, 2)
        assert one.stderr == other.stderr
        assert len(one.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["jobs.train", "submitt"],
         f"no such command 'submitt'. Did you mean 'submit'? ({sys.executable} -m jobs.train --help)"),
        (["jobs.ekiden", "trian"], "no such command 'trian'. Did you mean 'train'? (python"),
        (["jobs.train", "run"], "missing argument 'RECIPE' ("),
        (["jobs.train", "run", "demo", "--dry"], "no such option: --dry"),
        (["jobs.tokenize", "inspect", "demo", "first"], "invalid value for 'BLOCK'"),
        (
            ["jobs.pipeline", "new", "a", "--architecture", "lama"],
            "invalid value for '--architecture': 'lama' is not one of 'gpt2', 'llama' (",
        ),
    ],
)  # fmt: skip
def test_a_mistyped_command_line_is_answered_in_one_line(words: list[str], line: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {line}")
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


def test_a_job_without_a_verb_shows_its_help() -> None:
    done = run("jobs.train")
    assert done.returncode == 2
    assert "rehearse" in done.stderr


def test_a_path_that_a_name_would_hide_is_written_with_a_slash(
    workdir: Workdir, tmp_path: Path
) -> None:
    folder = workdir.workspace.root / "runs"
    assert run("jobs.download", "run", str(workdir.recipe_file), "name=demo").returncode == 0
    bare = run("jobs.pipeline", "show", "demo", cwd=folder)
    assert bare.returncode == 2
    assert "write ./demo" in bare.stderr
    for text in ("./demo", "demo/"):
        shown = run("jobs.pipeline", "show", text, cwd=folder)
        assert json.loads(shown.stdout)["recipe"]["workspace"] == str(workdir.workspace.root)
    named = run("jobs.pipeline", "show", "demo", cwd=tmp_path)
    assert json.loads(named.stdout)["recipe"]["workspace"] == str(ROOT / "work" / "demo")


def test_the_runs_of_a_workspace_are_listed_with_their_states(workdir: Workdir) -> None:
    assert run("jobs.download", "run", str(workdir.recipe_file)).returncode == 0
    assert run("jobs.download", "run", str(workdir.recipe_file), "name=other").returncode == 0
    write_json(workdir.workspace.run("broken").recipe, {"name": "broken"})
    rehearsal = workdir.workspace.run("small-rehearsal")
    shutil.copytree(workdir.workspace.run("small").root, rehearsal.root, symlinks=True)
    write_json(rehearsal.recipe, read_json(rehearsal.recipe) | {"name": rehearsal.root.name})
    rehearsal.identity.unlink()
    directory.identify(rehearsal, rehearsal.root.name, rehearsal_of="small")
    root = workdir.workspace.root
    found = json.loads(run("jobs.ekiden", "list", str(root), "--json").stdout)["runs"]
    assert [row["name"] for row in found] == ["broken", "other", "small", "small-rehearsal"]
    broken, other, small, rehearsed = found
    assert (rehearsed["stage"], rehearsed["state"]) == ("train", "not begun")
    assert (broken["state"], broken["training"]) == ("unreadable", None)
    assert "workspace: field required" in broken["reason"]
    assert (small["stage"], small["state"]) == ("preprocess", "not begun")
    assert (small["training"]["step"], small["training"]["steps"]) == (0, 10)
    assert other | {"name": "small", "run": small["run"]} == small
    assert small["run"] == str(root / "runs" / "small")
    for cwd, words in ((root, []), (root.parent.parent, [str(root)])):
        shown = run("jobs.list", *words, cwd=cwd).stdout
        assert re.search(r"^\S*runs/small +preprocess: not begun$", shown, re.MULTILINE)
        assert re.search(r"^\S*runs/broken +unreadable\n  .*field required", shown, re.MULTILINE)


def test_without_a_workspace_all_below_work_are_listed(workdir: Workdir) -> None:
    assert run("jobs.download", "run", str(workdir.recipe_file)).returncode == 0
    here = workdir.folder / "here"
    here.mkdir()
    answer = run("jobs.list", cwd=here)
    assert answer.returncode == 2
    assert "not a workspace, and none in work" in answer.stderr
    (here / "work").mkdir()
    (here / "work" / "small").symlink_to(workdir.workspace.root)
    assert "work/small/runs/small" in run("jobs.list", cwd=here).stdout
    elsewhere = run("jobs.list", str(workdir.folder))
    assert elsewhere.returncode == 2
    assert "not a workspace, it has no folder runs" in elsewhere.stderr


def test_the_files_that_have_a_name_are_listed_and_found(tmp_path: Path) -> None:
    listed = json.loads(run("jobs.ekiden", "presets", "--json", cwd=tmp_path).stdout)
    assert listed["recipe/gpt2-xl-ja"] == str(ROOT / "configs" / "gpt2-xl-ja.yaml")
    of_cluster = run("jobs.presets", "cluster/mdx", cwd=tmp_path)
    assert of_cluster.stdout == f"{listed['cluster/mdx']}\n"
    both = run("jobs.presets", "mdx", cwd=tmp_path)
    assert both.returncode == 2
    assert "ambiguous; write cluster/mdx or sbatch/mdx" in both.stderr
    assert run("jobs.presets", "nothing", cwd=tmp_path).returncode == 2
