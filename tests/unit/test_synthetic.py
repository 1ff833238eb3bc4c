"""Synthetic tokens: read as others are, and taken for none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.cluster import lock
from kit.config.run import Project, run_of
from kit.data import shards, tokens
from kit.errors import RunError, StageError
from kit.relay import rehearsal, resolve, synthetic
from kit.run import directory

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from tests.conftest import Workdir

SIZE = 70_000  # entries: tokens of four bytes


@pytest.fixture
def recipe(workdir: Workdir) -> Recipe:
    """The small recipe with two candidates, its texts gone."""
    workdir.web.unlink()
    workdir.dump.unlink()
    candidates = f"tokenizer.candidates=[{{vocab_size: 1000}}, {{vocab_size: {SIZE}}}]"
    return workdir.recipe(candidates, "training.validation_blocks=3")


def test_they_are_read_as_any_others(recipe: Recipe) -> None:
    stand_in = synthetic.synthetic_recipe(recipe)
    synthetic.make(stand_in, steps=10, ranks=2)
    made = tokens.complete(stand_in)
    assert tokens.tokenizer_info(stand_in) == tokens.TokenizerInfo(SIZE, 1, 2)
    train, held_out = (tokens.open_part(made, part, stand_in) for part in shards.PARTS)
    assert train.blocks(16) == 10 * 8  # a block for each sample of ten steps
    assert held_out.blocks(16) == 3
    drawn = train.slice(0, len(train))
    assert 0 <= drawn.min() < SIZE // 100
    assert SIZE - SIZE // 100 <= drawn.max() < SIZE
    assert (stand_in.model, stand_in.training) == (recipe.model, recipe.training)


def test_no_recipe_takes_them_for_its_own(workdir: Workdir, recipe: Recipe) -> None:
    stand_in = synthetic.synthetic_recipe(recipe)
    synthetic.make(stand_in, steps=1, ranks=1)
    assert [path.name for path in workdir.workspace.root.iterdir()] == ["synthetic"]
    there = recipe.model_copy(update={"workspace": stand_in.workspace})
    for other in (recipe, there):
        with pytest.raises(StageError, match=r"run ekiden download first"):
            tokens.complete(other)


def test_an_earlier_rehearsals_are_removed_and_another_folder_is_not(recipe: Recipe) -> None:
    synthetic.make(synthetic.synthetic_recipe(recipe), steps=1, ranks=1)
    place = synthetic.workspace_of(recipe)
    synthetic.remove(place)
    assert not place.root.exists()
    place.root.mkdir()
    with pytest.raises(RunError, match="does not hold synthetic tokens"):
        synthetic.remove(place)
    assert place.root.is_dir()


def test_those_of_a_rehearsal_at_work_are_left_alone(workdir: Workdir, recipe: Recipe) -> None:
    rehearsed = recipe.model_copy(update={"name": "small-rehearsal"})
    stand_in = synthetic.synthetic_recipe(rehearsed)
    synthetic.make(stand_in, steps=1, ranks=1)
    run = run_of(stand_in)
    run.root.mkdir(parents=True)
    directory.identify(run, rehearsed.name, rehearsal_of="small")
    project = Project.of(recipe, resolve.load(workdir.recipe_file).cluster)
    with lock.hold(run), pytest.raises(RunError, match="is already running this run"):
        rehearsal.rehearse(project, 10, with_synthetic=True)
    assert tokens.complete(stand_in)


def test_without_tokens_a_rehearsal_says_that_there_is_another_way(
    workdir: Workdir, recipe: Recipe
) -> None:
    project = Project.of(recipe, resolve.load(workdir.recipe_file).cluster)
    with pytest.raises(StageError, match=r"run ekiden download first, or give --synthetic"):
        rehearsal.rehearse(project, 10)
