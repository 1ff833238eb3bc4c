"""A recipe to start from: the commands take it as it is, also where they ask Slurm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from jobs.pipeline import app

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "dial",
    [
        [],
        ["--size", "124m"],
        ["--size", "1.5b", "--tokens", "30b", "--cluster", "mdx"],
        ["--size", "3B", "--cluster", "mdx"],
        ["--architecture", "llama"],
        ["--architecture", "llama", "--optimizer", "muon", "--decay", "wsd", "--cluster", "mdx"],
    ],
    ids=" ".join,
)
def test_show_and_a_dry_run_take_what_was_written(
    dial: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["new", "mine", *dial]).exit_code == 0
    cluster = dial[-2:] if "--cluster" in dial else []
    shown = CliRunner().invoke(app, ["show", "mine.yaml", *cluster])
    assert json.loads(shown.stdout)["recipe"]["name"] == "mine"
    for verb in ("run", "submit"):
        done = CliRunner().invoke(app, [verb, "mine.yaml", *cluster, "--dry-run"])
        assert done.exit_code == 0, done.output
        assert "train: " in done.output
