"""A recipe to start from: the commands take it as it is, also where they ask Slurm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from jobs.pipeline import app
from kit.data import shards, tokens
from kit.relay import resolve
from kit.training import batches

if TYPE_CHECKING:
    from tests.conftest import Workdir


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


def test_the_texts_of_the_demo_have_blocks_to_train_and_to_validate_on(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir.folder)
    assert CliRunner().invoke(app, ["new", "mine"]).exit_code == 0
    recipe = resolve.load(Path("mine.yaml")).recipe
    workdir.make(recipe, "tokenize")
    data = tokens.complete(recipe)
    row, held_out = (tokens.open_part(data, part, recipe) for part in shards.PARTS)
    assert row.blocks(recipe.model.n_positions) > 1
    assert batches.validation_blocks(recipe, held_out) > 1
