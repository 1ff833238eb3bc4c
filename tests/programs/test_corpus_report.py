"""The report on a corpus: its figures are those of the shards, its examples real documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.corpus import download, preprocess, report
from kit.data import shards
from kit.errors import StageError
from kit.store.files import read_json
from kit.store.paths import MANIFEST
from kit.store.units import make_units
from tests.conftest import units_of

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

FILTER = "corpus.filters.length.min=60"


def make(recipe: Recipe) -> Path:
    for module in (download, preprocess):
        make_units(module.__name__, units_of(module, recipe))
    return report.make(recipe)


def test_each_step_adds_up(workdir: Workdir) -> None:
    recipe = workdir.recipe(FILTER)
    totals = read_json(make(recipe) / MANIFEST)["totals"]
    steps = {name: step["documents"] for name, step in totals["steps"].items()}
    assert steps["left out: length"] >= 1
    out = sum(count for name, count in steps.items() if name.startswith("left out"))
    written = steps["written: train"] + steps["written: held-out"]
    assert steps["read"] == out + written
    assert steps["normalised"] == steps["read"] - steps.get("left out: empty", 0)
    documents = sum(
        1
        for shard in shards.complete(recipe)
        for part in shards.PARTS
        for _ in shards.read(shards.part_file(shard.folder, part))
    )
    assert documents == written


def test_the_report_is_a_table_a_plot_and_ten_documents(workdir: Workdir) -> None:
    recipe = workdir.recipe(FILTER)
    folder = make(recipe)
    text = (folder / report.TABLE).read_text(encoding="utf-8")
    assert "| left out: length |" in text
    assert text.count("\n---\n") == 10
    assert (folder / report.PLOT).read_bytes().startswith(b"\x89PNG")
    first = text.split("```\n")[1]
    assert (
        first.strip() in workdir.web.read_text(encoding="utf-8") or "駅伝" in first or "県" in first
    )


def test_the_examples_are_the_same_whatever_the_units(workdir: Workdir) -> None:
    one = make(workdir.recipe()) / report.TABLE
    other = workdir.recipe("corpus.unit_mb=1", f"workspace={workdir.folder / 'other'}")
    assert (make(other) / report.TABLE).read_text() == one.read_text()


def test_examples_are_not_drawn_from_the_held_out_documents_alone(workdir: Workdir) -> None:
    examples = report.Examples()
    for key in range(0, 2**64, 2**54):
        examples.offer(key, [str(key)], str(key), None)
    keys = [int(example["before"]) for example in examples.sample()]
    assert len(keys) == 10
    assert not any(preprocess.is_held_out(key, 0.1) for key in keys)


def test_a_report_that_is_there_is_not_made_again(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    folder = make(recipe)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert make(recipe) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_there_is_no_report_before_the_last_shard(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    make_units("download", units_of(download, recipe))
    make_units("preprocess", units_of(preprocess, recipe), 0, 2)
    with pytest.raises(StageError, match=r"run ekiden preprocess first"):
        report.make(recipe)
