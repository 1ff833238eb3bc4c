"""Which blocks a rank reads at a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.data import tokens
from kit.errors import ConfigError, InputError
from kit.training.batches import Batches, training_batches, validation_blocks

if TYPE_CHECKING:
    from tests.conftest import Workdir

LENGTH = 4


def row(blocks: int) -> tokens.TokenStream:
    """A row of `blocks` blocks and a token: the numbers from 0."""
    ids = np.arange(blocks * LENGTH + 1, dtype="<u2")
    return tokens.TokenStream((ids,), (0, len(ids)))


def batches(rank: int, ranks: int, micro: int = 1, seed: int = 0, blocks: int = 20) -> Batches:
    return Batches(row(blocks), LENGTH, 8, micro, rank, ranks, seed)


def step_of(step: int, ranks: int, micro: int) -> list[list[int]]:
    """All blocks that all ranks read at a step, in the order of their samples."""
    found: dict[int, list[int]] = {}
    for rank in range(ranks):
        one = batches(rank, ranks, micro)
        for number in range(one.accumulation):
            first = one.first_sample(step * 8, number)
            read = one.read(step * 8, number)
            assert read.shape == (micro, LENGTH + 1)
            assert read.dtype == np.int64
            for at in range(micro):
                assert first + at not in found
                found[first + at] = read[at].tolist()
    assert sorted(found) == list(range(step * 8, step * 8 + 8))
    return [found[sample] for sample in sorted(found)]


@pytest.mark.parametrize(
    ("ranks", "micro"), [(1, 1), (1, 4), (2, 1), (2, 2), (2, 4), (4, 2), (8, 1)]
)
def test_a_step_reads_the_same_samples_however_many_ranks_there_are(ranks: int, micro: int) -> None:
    for step in (0, 1, 2, 1_000_000):
        assert step_of(step, ranks, micro) == step_of(step, 1, 8)


def test_an_epoch_reads_every_block_once_across_steps() -> None:
    read = [block[0] // LENGTH for step in range(5) for block in step_of(step, 2, 2)]
    assert sorted(read[:20]) == sorted(read[20:]) == list(range(20))
    assert read[:20] != read[20:]


def test_a_block_is_followed_by_the_token_after_it() -> None:
    for block in step_of(0, 1, 1):
        assert block == list(range(block[0], block[0] + LENGTH + 1))


def test_another_seed_reads_in_another_order() -> None:
    one, other = batches(0, 1, 8, seed=0), batches(0, 1, 8, seed=1)
    assert not np.array_equal(one.read(0, 0), other.read(0, 0))


@pytest.mark.parametrize("ranks", [3, 5, 8])
def test_a_global_batch_that_cannot_be_shared_evenly_is_refused(
    workdir: Workdir, ranks: int
) -> None:
    recipe = workdir.recipe("model.n_positions=4")
    with pytest.raises(ConfigError, match=rf"global_batch=8 is not a multiple .* 2 x {ranks}"):
        training_batches(recipe, row(20), 0, ranks)
    assert training_batches(recipe, row(20), 0, 4).accumulation == 1


def test_a_training_set_of_no_whole_block_is_refused(workdir: Workdir) -> None:
    recipe = workdir.recipe("model.n_positions=4")
    with pytest.raises(
        InputError, match=r"1 training token, less than a block of model\.n_positions=4"
    ):
        training_batches(recipe, row(0), 0, 1)
    with pytest.raises(InputError, match="held-out token, less than a block"):
        validation_blocks(recipe, row(0))


def test_validation_reads_what_there_is_at_most(workdir: Workdir) -> None:
    recipe = workdir.recipe("model.n_positions=4")
    assert validation_blocks(recipe, row(3)) == 3
    few = workdir.recipe("model.n_positions=4", "training.validation_blocks=2")
    assert validation_blocks(few, row(3)) == 2
    many = workdir.recipe("model.n_positions=4", "training.validation_blocks=9")
    assert validation_blocks(many, row(3)) == 3
