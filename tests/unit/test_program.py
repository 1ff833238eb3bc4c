"""Commands in messages: spelled as the user started the process, whoever wrote the message."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kit.output import program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the console script, which is not on the PATH."""
    script = tmp_path / "bin" / "ekiden"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    return tmp_path


def started(monkeypatch: pytest.MonkeyPatch, interpreter: str, script: str) -> None:
    monkeypatch.setattr(sys, "orig_argv", [interpreter])
    monkeypatch.setattr(sys, "argv", [script])


@pytest.mark.parametrize(
    ("interpreter", "script", "spelled"),
    [
        ("python", "/x/jobs/watch.py", "python -m jobs.train submit"),
        (".venv/bin/python3", "/x/jobs/ekiden.py", ".venv/bin/python3 -m jobs.train submit"),
        ("/x/bin/python", "bin/ekiden", "bin/ekiden train submit"),
        ("/x/bin/python", "/x/kit/cluster/task.py", "ekiden train submit"),
        ("/x/bin/python", "", "ekiden train submit"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_command_begins_as_the_user_began(
    interpreter: str, script: str, spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(monkeypatch, interpreter, script)
    assert program.command("train", "submit", Path("a b")) == f"{spelled} 'a b'"
    for written in (
        "ekiden train",
        "jobs.train",
        "python -m jobs.train",
        spelled.rsplit(" ", 1)[0],
    ):
        assert program.respelled(f"see `{written} submit`, a") == f"see `{spelled}`, a"


def test_a_script_on_the_path_goes_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin")
    started(monkeypatch, "/x/bin/python", str(folder / "bin" / "ekiden"))
    assert program.command("list") == "ekiden list"


@pytest.mark.parametrize(
    "text",
    ["ekiden sets this option itself", "kit.jobs.trainer", "ekiden training", "jobs/train.py",
     "work/ekiden-train", "myekiden train", "jobs.json"],
)  # fmt: skip
def test_other_text_stays(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, "python", "/x/jobs/watch.py")
    assert program.respelled(text) == text
