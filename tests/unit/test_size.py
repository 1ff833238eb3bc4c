"""One dial: a size becomes a model and its training, by the rules that are written there."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.plan import size as dial
from kit.plan.size import Machine, Shape, plan, shape_of

NODE = Machine(ranks=8, memory=40e9)
SIZES = [10e6, 15e6, 20e6, 33e6, 50e6, 70e6, 100e6, 124e6, 160e6, 250e6, 355e6, 500e6, 774e6, 1e9,
         1.3e9, 1.5e9, 2e9, 2.7e9, 3e9]  # fmt: skip


@given(st.floats(10e6, 3e9), st.sampled_from(dial.VOCABULARIES))
def test_every_size_is_met_within_the_tolerance(size: float, most_entries: int) -> None:
    shape, _ = shape_of(size, most_entries)
    assert abs(shape.parameters - size) <= dial.TOLERANCE * size
    assert shape.n_embd == shape.n_head * dial.HEAD
    assert shape.vocab_size <= most_entries
    assert shape.vocab_size * shape.n_embd <= shape.parameters / 3


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (Shape(12, 768, 50_257), 124_439_808),  # GPT-2, as transformers counts it
        (Shape(24, 1024, 50_257), 354_823_168),
        (Shape(36, 1280, 50_257), 774_030_080),
        (Shape(48, 1600, 50_257), 1_557_611_200),
        (Shape(48, 1600, 50_000), 1_557_200_000),
    ],
    ids=str,
)
def test_the_parameters_are_those_of_gpt2(shape: Shape, parameters: int) -> None:
    assert shape.parameters == parameters


@pytest.mark.parametrize(
    ("size", "layers", "width", "like"),
    [
        (124e6, 12, 768, "GPT-2"),
        (350e6, 24, 1024, "GPT-2 medium"),
        (760e6, 36, 1280, "GPT-2 large"),
        (1.5e9, 48, 1600, "GPT-2 XL"),
        (2.7e9, 32, 2560, "GPT-3 2.7B"),
    ],
)
def test_a_published_size_has_the_published_shape(
    size: float, layers: int, width: int, like: str
) -> None:
    shape, why = shape_of(size)
    assert (shape.n_layer, shape.n_embd) == (layers, width)
    assert why == f"the shape of {like}"


def test_between_published_sizes_the_width_per_layer_is_between_theirs() -> None:
    small, large = shape_of(124e6)[0], shape_of(350e6)[0]
    between = shape_of(220e6)[0]
    assert large.n_embd / large.n_layer < between.n_embd / between.n_layer
    assert between.n_embd / between.n_layer < small.n_embd / small.n_layer
    assert 50 < shape_of(30e6)[0].n_embd / shape_of(30e6)[0].n_layer < 80


def test_batch_and_rate_are_those_of_the_paper() -> None:
    # DeepSeek LLM 7B and 67B over 2 T tokens: batches of 2,304 and 4,608 blocks of 4,096 tokens, rates of
    # 4.2e-4 and 3.2e-4 (its table 2), within the band that it calls near-optimal.
    for layers, width, blocks, rate in ((30, 4096, 2304, 4.2e-4), (95, 8192, 4608, 3.2e-4)):
        compute = Shape(layers, width, 102_400, 4096).compute(2e12)
        assert dial.batch_of(compute) == pytest.approx(blocks * 4096, rel=0.25)
        assert dial.rate_of(compute) == pytest.approx(rate, rel=0.15)
    assert dial.rate_of(1e12) == dial.rate_of(1e17) == pytest.approx(2.34e-3, rel=0.01)
    assert dial.batch_of(1e17) == pytest.approx(1.06e5, rel=0.01)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 12])
@pytest.mark.parametrize("size", SIZES)
def test_a_plan_adds_up(size: float, ranks: int) -> None:
    made = plan(size, None, Machine(ranks, 40e9))
    assert made.global_batch % (made.micro_batch * ranks) == 0
    assert made.tokens == 20 * made.shape.parameters
    tokens = made.steps * made.global_batch * made.shape.n_positions
    assert 0 <= tokens - made.tokens < made.global_batch * made.shape.n_positions
    assert made.warmup_steps == min(2000, made.steps // 10)
    wanted = dial.batch_of(made.shape.compute(made.tokens)) / made.shape.n_positions
    assert abs(math.log2(made.global_batch / wanted)) < 1.1


def test_a_larger_model_has_a_larger_batch_and_a_smaller_rate() -> None:
    plans = [plan(size, None, NODE) for size in SIZES]
    for less, more in itertools.pairwise(plans):
        assert less.global_batch <= more.global_batch
        assert less.learning_rate >= more.learning_rate
        assert less.micro_batch >= more.micro_batch or less.global_batch < 128


def test_what_does_not_fit_is_offloaded_or_computed_again() -> None:
    assert plan(1.5e9, 30e9, NODE).micro_batch == 8  # as configs/gpt2-xl-ja.yaml
    assert not plan(1.5e9, 30e9, NODE).offload
    one = plan(1.5e9, 30e9, Machine(1, 16e9))
    assert one.offload
    least = plan(3e9, 30e9, Machine(1, 10e9))
    assert least.activation_checkpointing
    none = plan(3e9, 30e9, Machine(1, 8e9))
    (why,) = [why for what, _, why in none.reasons if what == "micro-batch"]
    assert "exceed the 8 GB" in why


def test_each_choice_is_told_with_its_reason() -> None:
    told = {what: f"{how_much}; {why}" for what, how_much, why in plan(1.5e9, 30e9, NODE).reasons}
    assert told["model"] == (
        "1.56 B parameters: 48 layers, 1,600 wide, 25 heads; 1.5 B requested; the shape of GPT-2 XL"
    )
    assert "arXiv 2401.02954" in told["global batch"]
    assert "GPT-3 1.3 B was trained with 0.0002" in told["learning rate"]
    assert told["tokens"] == "30 B; requested"
