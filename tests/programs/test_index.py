"""The index of a workspace's tokens: written last, in force while every unit is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.data import index, shards, tokens
from kit.errors import StageError
from kit.store import manifest
from kit.store.files import read_json, write_json
from kit.store.paths import MANIFEST, Run, Workspace
from kit.store.units import make_units
from kit.tokenizer import encode
from tests.conftest import units_of
from tests.programs.test_encode import OVERRIDES, put

# A fixture, by its name.
from tests.programs.test_encode import recipe as recipe  # noqa: PLC0414

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.config.recipe import Recipe
    from tests.conftest import Workdir


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Run:
    """A run whose tokenizer is made, and no tokens."""
    put(recipe)
    made = Run(tmp_path / "run")
    write_json(made.recipe, recipe.model_dump(mode="json"))
    return made


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes all units of which were looked at."""
    seen: list[Recipe] = []
    complete = tokens.complete

    def look(recipe: Recipe) -> list[tokens.TokenUnit]:
        seen.append(recipe)
        return complete(recipe)

    monkeypatch.setattr(tokens, "complete", look)
    return seen


def test_the_last_task_writes_it_and_no_other(run: Run, recipe: Recipe, workdir: Workdir) -> None:
    tasks = len(shards.complete(recipe))
    assert tasks > 1
    for task in range(tasks):
        assert not workdir.workspace.tokens_index.exists()
        encode.work(run, task, tasks)
    assert workdir.workspace.tokens_index.is_file()


def test_an_attempt_finds_by_it_what_a_look_at_every_unit_finds(
    run: Run,
    recipe: Recipe,
    walks: list[Recipe],
    workdir: Workdir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_units("tokenize", units_of(encode, recipe))
    walked = index.load(recipe)
    encode.work(run, 0, 1)
    walks.clear()
    read: list[Path] = []
    at = manifest._Found.at
    look = staticmethod(lambda folder: (read.append(Path(folder) / MANIFEST), at(folder))[1])
    monkeypatch.setattr(manifest._Found, "at", look)
    assert index.load(recipe) == walked
    assert not walks
    assert workdir.workspace.tokenizer / MANIFEST in read
    assert not [path for path in read if path.parents[1].name in ("shards", "tokens")]
    made = tokens.complete(recipe)
    assert walked.fingerprint == tokens.fingerprint(made)
    for part in shards.PARTS:
        row, other = walked.open(part, recipe), tokens.open_part(made, part, recipe)
        assert row.paths == other.paths
        assert row.starts == other.starts


def test_a_workspace_without_one_goes_on_and_is_given_none(
    run: Run, recipe: Recipe, walks: list[Recipe], workdir: Workdir
) -> None:
    make_units("tokenize", units_of(encode, recipe))
    assert index.load(recipe).folders
    assert walks
    assert not workdir.workspace.tokens_index.exists()


def withdraw(recipe: Recipe) -> None:
    manifest.invalidate(tokens.expected(recipe)[1].folder)


def make_again(recipe: Recipe) -> None:
    path = tokens.expected(recipe)[1].folder / MANIFEST
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def change_shard(recipe: Recipe) -> None:
    path = shards.expected(recipe)[0].folder / MANIFEST
    found = read_json(path)
    found["outputs"]["train.txt.zst"]["xxh3"] = "0" * 32
    write_json(path, found)


def change_tokenizer(recipe: Recipe) -> None:
    put(recipe, size=1500)


def damage(recipe: Recipe) -> None:
    path = Workspace(Path(recipe.workspace)).tokens_index
    path.write_bytes(path.read_bytes()[:-5])


def pick(recipe: Recipe) -> None:
    pick = Workspace(Path(recipe.workspace)).pick
    write_json(pick, {"candidate": "bpe-2000-800-lossless"})


@pytest.mark.parametrize(
    "change", [withdraw, make_again, change_shard, change_tokenizer, damage, pick]
)
def test_it_is_out_of_force_when_a_unit_may_be_stale(
    run: Run, recipe: Recipe, walks: list[Recipe], change: Callable[[Recipe], None]
) -> None:
    encode.work(run, 0, 1)
    walks.clear()
    change(recipe)
    if change in (make_again, damage):
        index.load(recipe)
    else:
        with pytest.raises(StageError):
            index.load(recipe)
    assert walks


@pytest.mark.parametrize(
    ("room", "name"), [(shards, "VERSION"), (tokens, "VERSION"), (index, "VERSION")]
)
def test_it_is_out_of_force_with_another_version_of_a_stage(
    run: Run,
    recipe: Recipe,
    walks: list[Recipe],
    monkeypatch: pytest.MonkeyPatch,
    room: object,
    name: str,
) -> None:
    encode.work(run, 0, 1)
    walks.clear()
    monkeypatch.setattr(room, name, 99)
    assert index._indexed(recipe) is None


def test_it_is_out_of_force_for_another_recipe(run: Run, recipe: Recipe, workdir: Workdir) -> None:
    encode.work(run, 0, 1)
    assert index._indexed(recipe)
    assert index._indexed(workdir.recipe(*OVERRIDES, "tokens.tasks=7", "corpus.tasks=3"))
    assert index._indexed(workdir.recipe("corpus.held_out=0.2")) is None
    assert index._indexed(workdir.recipe(*OVERRIDES, "tokenizer.vocab_size=2100")) is None


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_token_file_that_is_not_what_it_says_is_told(run: Run, recipe: Recipe, how: str) -> None:
    encode.work(run, 0, 1)
    found = index.load(recipe)
    path = tokens.token_file(found.folders[1], shards.TRAIN)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(StageError) as caught:
        index.load(recipe).open(shards.TRAIN, recipe)
    assert str(caught.value) == f"{path.parent}: broken; run ekiden tokenize first"
