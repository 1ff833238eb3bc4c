"""Stages: what they make does not depend on how the work is dealt out, and is made once."""

from __future__ import annotations

import bz2
import gzip
from typing import TYPE_CHECKING

import pytest

from kit.corpus import download, preprocess
from kit.errors import EkidenError
from kit.store.units import Unit, census, make_units
from kit.tokenizer import candidates, count, encode, merge, selection
from tests.conftest import units_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

TOKENIZER = (count, merge, candidates, selection)
CANDIDATES = "tokenizer.candidates=[{algorithm: bpe}, {spaces: article}]"
ALL_DONE = {"missing": 0, "stale": 0, "broken": 0}


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file under a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make(workdir: Workdir, tasks: int, workspace: str, *, backwards: bool = False) -> Path:
    """Shards and tokens of the workdir's corpus, made by arrays of `tasks` tasks."""
    recipe = workdir.recipe(
        f"workspace={workdir.folder / workspace}", "tokenizer.count_mb=0.005", CANDIDATES
    )
    make_units("download", units_of(download, recipe))
    for module in (preprocess, *TOKENIZER, encode):
        order = range(tasks)
        for task in reversed(order) if backwards else order:
            make_units(module.__name__, units_of(module, recipe), task, tasks)
    return workdir.folder / workspace


def test_shards_and_tokens_do_not_depend_on_the_number_of_tasks(workdir: Workdir) -> None:
    one = make(workdir, 1, "one")
    assert len(list((one / "shards").iterdir())) >= 3
    for tasks, backwards in ((2, False), (3, True)):
        other = make(workdir, tasks, f"by{tasks}", backwards=backwards)
        for folder in ("shards", "word-counts", "words", "tokenizer", "tokens"):
            assert contents(other / folder) == contents(one / folder)
    assert len(list((one / "word-counts" / "lossless").iterdir())) >= 2


def test_every_unit_belongs_to_one_task(tmp_path: Path) -> None:
    for tasks in (1, 2, 3, 7, 20):
        made: list[str] = []

        def unit(name: str, made: list[str] = made, tasks: int = tasks) -> Unit:
            def build(folder: Path) -> dict[str, object]:
                made.append(name)
                return {}

            return Unit(name, tmp_path / str(tasks) / name, {"name": name}, build)

        units = [unit(f"u{number}") for number in range(10)]
        counts = [make_units("any", units, task, tasks) for task in range(tasks)]
        assert sum(counts) == 10
        assert sorted(made) == sorted(f"u{number}" for number in range(10))


def test_running_a_stage_again_makes_nothing(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    for module in (download, preprocess, *TOKENIZER, encode):
        assert make_units(module.__name__, units_of(module, recipe)) > 0
    before = {path: path.stat().st_mtime_ns for path in workdir.workspace.root.rglob("*")}
    for module in (download, preprocess, *TOKENIZER, encode):
        assert make_units(module.__name__, units_of(module, recipe)) == 0
        assert ALL_DONE.items() <= census(units_of(module, recipe), verify=True).items()
    assert {path: path.stat().st_mtime_ns for path in workdir.workspace.root.rglob("*")} == before


def test_only_what_is_broken_is_made_again_and_to_the_same_bytes(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    for module in (download, preprocess):
        make_units(module.__name__, units_of(module, recipe))
    units = units_of(preprocess, recipe)
    whole = contents(workdir.workspace.root)
    victim = units[1].folder / "train.txt.zst"
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    victim.write_bytes(bytes(raw))
    assert census(units)["broken"] == 0
    assert census(units, verify=True)["broken"] == 1
    victim.unlink()
    assert census(units)["broken"] == 1
    assert make_units("preprocess", units) == 1
    assert contents(workdir.workspace.root) == whole


@pytest.mark.parametrize(
    ("override", "downloads", "shards"),
    [
        ("corpus.held_out=0.2", "done", "stale"),
        ("corpus.mode=article", "done", "stale"),
        ("corpus.tasks=7", "done", "done"),
        ("training.steps=3", "done", "done"),
        ("tokenizer.vocab_size=1150", "done", "done"),
        ("corpus.unit_mb=0.003", "stale", None),
    ],
)
def test_a_changed_recipe_makes_stale_what_it_decides_and_nothing_else(
    workdir: Workdir, override: str, downloads: str, shards: str | None
) -> None:
    recipe = workdir.recipe()
    for module in (download, preprocess):
        make_units(module.__name__, units_of(module, recipe))
    changed = workdir.recipe(override)
    counts = census(units_of(download, changed))
    assert counts[downloads] == sum(counts.values())
    if shards is not None:
        counts = census(units_of(preprocess, changed))
        assert counts[shards] == sum(counts.values())


def test_another_vocabulary_makes_tokenizer_and_tokens_stale(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    workdir.make(recipe, "tokenize")
    changed = workdir.recipe("tokenizer.vocab_size=1150")
    assert census(units_of(selection, changed))["stale"] == 1
    assert census(units_of(merge, changed))["done"] == 1
    workdir.make(changed, "tokenizer")
    counts = census(units_of(encode, changed))
    assert counts["stale"] == sum(counts.values())


def test_a_changed_text_remakes_only_the_units_that_hold_it(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    for module in (download, preprocess):
        make_units(module.__name__, units_of(module, recipe))
    text = workdir.web.read_text(encoding="utf-8")
    workdir.web.write_text(text + "\n最後に加えた一行。\n", encoding="utf-8")
    make_units("download", units_of(download, recipe))
    counts = census(units_of(preprocess, recipe))
    assert counts["done"] >= 2
    assert counts["stale"] + counts["missing"] == 1


def test_a_smaller_corpus_leaves_no_part_of_the_larger_one(workdir: Workdir) -> None:
    (workdir.folder / "web.gz").write_bytes(gzip.compress(workdir.web.read_bytes()))
    packed = f"corpus.sources.web.location={workdir.folder / 'web.gz'}"
    recipe = workdir.recipe("corpus.unit_mb=0.001", packed)
    make_units("download", units_of(download, recipe))
    recipe = workdir.recipe("corpus.unit_mb=1", packed)
    make_units("download", units_of(download, recipe))
    assert [path.name for path in workdir.workspace.raw("web").glob("part-*")] == [
        "part-00000.txt.zst"
    ]


def test_a_dump_replaced_behind_the_kits_back_is_not_taken_for_the_old_one(
    workdir: Workdir, streams: list[bytes]
) -> None:
    recipe = workdir.recipe()
    make_units("download", units_of(download, recipe))
    other = bz2.decompress(streams[2]).replace("駅伝".encode(), "伝駅".encode())
    workdir.dump.write_bytes(b"".join([streams[0], streams[1], bz2.compress(other), streams[3]]))
    with pytest.raises(EkidenError):
        make_units("preprocess", units_of(preprocess, recipe))
