"""Duplicates over the whole corpus: found in two passes, the first of each text stays."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.corpus import download, preprocess
from kit.corpus.dedup import deduplicate, fingerprint
from kit.data import duplicates, shards
from kit.errors import StageError
from kit.store.files import read_json
from kit.store.units import make_units
from tests.conftest import units_of

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

PASSES = (fingerprint, deduplicate, preprocess)
ON = "corpus.filters.duplicates=true"


def make(recipe: Recipe) -> None:
    make_units("download", units_of(download, recipe))
    for module in PASSES:
        make_units(module.__name__, units_of(module, recipe))


def texts(recipe: Recipe) -> list[str]:
    """The documents of all shards, in the order of the corpus, training before held out in each."""
    return [
        shards.plain_text(document)
        for shard in shards.complete(recipe)
        for part in shards.PARTS
        for document in shards.read(shards.part_file(shard.folder, part))
    ]


def left_out(recipe: Recipe) -> int:
    found = [read_json(s.folder / "manifest.json")["steps"] for s in shards.complete(recipe)]
    return sum(steps.get("left out: duplicates", {"documents": 0})["documents"] for steps in found)


def repeat_documents(workdir: Workdir) -> list[str]:
    """Give the workdir a text whose documents stand in it once, twice or three times."""
    whole = workdir.web.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    drawn = random.Random(3)
    row = [document for document in whole for _ in range(drawn.randint(1, 3))]
    drawn.shuffle(row)
    workdir.web.write_text("\n\n".join(row) + "\n", encoding="utf-8")
    return row


def test_a_document_that_stood_in_the_corpus_before_is_left_out(workdir: Workdir) -> None:
    row = repeat_documents(workdir)
    recipe = workdir.recipe(ON)
    make(recipe)
    plain = workdir.recipe(f"workspace={workdir.folder / 'all'}")
    make(workdir.recipe(ON, f"workspace={workdir.folder / 'all'}"))
    make_units("preprocess", units_of(preprocess, plain))
    found, everything = texts(recipe), texts(plain)
    assert len(everything) - len(found) == len(row) - len(set(row)) == left_out(recipe)
    assert len(found) == len(set(found))
    assert set(found) == set(everything)


def test_the_first_of_equal_documents_stays(workdir: Workdir) -> None:
    repeat_documents(workdir)
    recipe = workdir.recipe(ON)
    make(recipe)
    names = [piece["name"] for piece in shards.pieces(recipe)]
    seen: set[bytes] = set()
    lists = duplicates.lists(recipe, names)
    for number, name in enumerate(names):
        path = workdir.workspace.fingerprints(name) / duplicates.FINGERPRINTS
        raw = path.read_bytes()
        again = set(map(int, duplicates.of_unit(lists, number)))
        for document in range(len(raw) // duplicates.WIDTH):
            value = raw[document * duplicates.WIDTH :][: duplicates.WIDTH]
            assert (document in again) == (value in seen)
            seen.add(value)


@pytest.mark.parametrize("bucket", [1, 7, 20])
def test_documents_do_not_depend_on_the_number_of_buckets(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch, bucket: int
) -> None:
    repeat_documents(workdir)
    recipe = workdir.recipe(ON)
    make(recipe)
    found = texts(recipe)
    monkeypatch.setattr(duplicates, "_BUCKET", bucket)
    other = workdir.recipe(ON, f"workspace={workdir.folder / 'other'}")
    make(other)
    names = [piece["name"] for piece in shards.pieces(other)]
    assert duplicates.buckets(other, names) > 2
    assert texts(other) == found


def test_without_a_pass_the_next_says_what_is_missing(workdir: Workdir) -> None:
    recipe = workdir.recipe(ON)
    make_units("download", units_of(download, recipe))
    for module in (deduplicate, preprocess):
        with pytest.raises(StageError, match=r"run ekiden preprocess first"):
            units_of(module, recipe)


def test_another_duplicate_makes_stale_only_the_shards_it_stands_in(workdir: Workdir) -> None:
    repeat_documents(workdir)
    recipe = workdir.recipe(ON)
    make(recipe)
    whole = workdir.web.read_text(encoding="utf-8")
    workdir.web.write_text(whole + "\n" + whole.split("\n\n")[0] + "\n", encoding="utf-8")
    for module in (download, fingerprint, deduplicate):
        make_units(module.__name__, units_of(module, recipe))
    states = [unit.state() for unit in units_of(preprocess, recipe)]
    assert states.count("done") >= len(states) - 2
    assert states.count("stale") + states.count("missing") >= 1


def test_repeated_fingerprints_are_those_behind_the_first() -> None:
    drawn = np.random.default_rng(1)
    values = drawn.integers(0, 20, (500, 2)).astype("<u8")
    keys = drawn.permutation(10_000)[:500].astype("<u8")
    first: dict[tuple[int, int], int] = {}
    for value, key in zip(map(tuple, values.tolist()), keys.tolist(), strict=True):
        first[value] = min(first.get(value, key), key)
    expected = sorted(set(keys.tolist()) - set(first.values()))
    assert deduplicate.later_duplicates(values, keys).tolist() == expected
