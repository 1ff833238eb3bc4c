"""Training's arithmetic: the schedule, the samples of a step, the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.data import tokens
from kit.errors import ConfigError, InputError
from kit.training.batches import Batches, training_batches, validation_blocks

if TYPE_CHECKING:
    from tests.conftest import Desk

LENGTH = 4


def row(blocks: int) -> tokens.TokenRow:
    """A row of `blocks` blocks and a token: the numbers from 0."""
    ids = np.arange(blocks * LENGTH + 1, dtype="<u2")
    return tokens.TokenRow((ids,), (0, len(ids)))


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
def test_a_global_batch_that_cannot_be_shared_evenly_is_refused(desk: Desk, ranks: int) -> None:
    recipe = desk.recipe("model.n_positions=4")
    with pytest.raises(ConfigError, match=rf"global_batch=8 is no multiple .* 2 x {ranks}"):
        training_batches(recipe, row(20), 0, ranks)
    assert training_batches(recipe, row(20), 0, 4).accumulation == 1


def test_a_training_set_of_no_whole_block_is_refused(desk: Desk) -> None:
    recipe = desk.recipe("model.n_positions=4")
    with pytest.raises(InputError, match=r"1 training tokens are no block of model\.n_positions=4"):
        training_batches(recipe, row(0), 0, 1)
    with pytest.raises(InputError, match="held-out tokens are no block"):
        validation_blocks(recipe, row(0))


def test_validation_reads_what_there_is_at_most(desk: Desk) -> None:
    recipe = desk.recipe("model.n_positions=4")
    assert validation_blocks(recipe, row(3)) == 3
    few = desk.recipe("model.n_positions=4", "training.validation_blocks=2")
    assert validation_blocks(few, row(3)) == 2
    many = desk.recipe("model.n_positions=4", "training.validation_blocks=9")
    assert validation_blocks(many, row(3)) == 3


SMALL = ("model.n_positions=8", "model.dropout=0", "model.n_embd=8")
VOCABULARY = tokens.Vocabulary(50, begin=1, end=2)


def loss_and_gradients(desk: Desk, *overrides: str) -> tuple[float, list[np.ndarray]]:
    import torch

    from kit.models.gpt2 import LanguageModel

    torch.manual_seed(0)
    model = LanguageModel(desk.recipe(*SMALL, *overrides), VOCABULARY)
    blocks = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    loss = model(blocks)
    loss.backward()
    return float(loss.detach()), [p.grad.numpy() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("chunk", [1, 5, 8, 24, 1000])
def test_a_loss_in_chunks_is_the_loss_and_so_are_its_gradients(desk: Desk, chunk: int) -> None:
    whole, gradients = loss_and_gradients(desk)
    chunked, found = loss_and_gradients(desk, f"training.loss_chunk={chunk}")
    assert chunked == pytest.approx(whole, rel=1e-5)
    assert len(found) == len(gradients)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_activation_checkpointing_does_not_change_the_loss(desk: Desk) -> None:
    whole, gradients = loss_and_gradients(desk)
    again, found = loss_and_gradients(desk, "model.activation_checkpointing=true")
    assert again == pytest.approx(whole, rel=1e-5)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_block_predicts_its_tokens_and_with_lookahead_the_one_after_it(desk: Desk) -> None:
    import torch
    import torch.nn.functional as F  # noqa: N812

    from kit.models.gpt2 import LanguageModel

    blocks = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    for labels, counted in (("lookahead", 8), ("inside", 7)):
        torch.manual_seed(0)
        model = LanguageModel(desk.recipe(*SMALL, f"training.labels={labels}"), VOCABULARY)
        logits = model.gpt2(blocks[:, :8]).logits[:, :counted]
        expected = F.cross_entropy(logits.flatten(0, 1), blocks[:, 1 : counted + 1].flatten())
        assert float(model(blocks)) == pytest.approx(float(expected), rel=1e-5)
        changed = blocks.clone()
        changed[:, 8] = (changed[:, 8] + 1) % 50
        assert (float(model(changed)) == float(model(blocks))) is (labels == "inside")


def test_weight_decay_is_for_matrices(desk: Desk) -> None:
    from kit.models.gpt2 import LanguageModel, parameter_groups

    recipe = desk.recipe(*SMALL)
    model = LanguageModel(recipe, VOCABULARY)
    decayed, others = parameter_groups(model, recipe.training)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(parameter.dim() > 1 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in others["params"])
    count = sum(len(group["params"]) for group in (decayed, others))
    assert count == len(list(model.parameters()))
    (one,) = parameter_groups(model, desk.recipe(*SMALL, "training.decay_all=true").training)
    assert len(one["params"]) == count


@pytest.mark.parametrize(
    "key",
    [
        "optimizer",
        "scheduler",
        "bf16",
        "train_batch_size",
        "gradient_clipping",
        "zero_optimisation",
    ],
)
def test_a_deepspeed_key_that_the_recipe_sets_or_deepspeed_ignores_is_refused(
    desk: Desk, key: str
) -> None:
    from kit.training.engine import configuration

    (desk.folder / "zero2.json").write_text(f'{{"{key}": {{}}}}', encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"training\.deepspeed: {key} .*allowed: .*zero_optimiz"):
        configuration(desk.recipe(), 2)


def test_the_deepspeed_configuration_is_the_file_and_the_recipe(desk: Desk) -> None:
    from kit.training.engine import configuration

    found = configuration(desk.recipe("training.clip=0.5", "training.precision=fp32"), 3)
    assert found["zero_optimization"] == {"stage": 2}
    assert found["train_micro_batch_size_per_gpu"] == 2
    assert found["gradient_accumulation_steps"] == 3
    assert found["gradient_clipping"] == 0.5
    assert found["bf16"] == {"enabled": False}


def test_a_models_configuration_has_the_ids_of_the_vocabulary(desk: Desk) -> None:
    from kit.models.gpt2 import LanguageModel

    vocabulary = tokens.Vocabulary(50, begin=2, end=1)
    model = LanguageModel(desk.recipe(*SMALL, "model.pad_vocab_to=32"), vocabulary)
    config = model.gpt2.config
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id) == (64, 2, 1)
