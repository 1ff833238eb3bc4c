"""One dial: a size becomes a model and its training, by the rules that are written there."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.config.load import load_recipe
from kit.config.recipe import Model
from kit.plan import proportions
from kit.plan import size as dial
from kit.plan.proportions import Shape, shape_of
from kit.plan.size import Machine, Request, plan

NODE = Machine(ranks=8, memory=40e9)
KINDS: tuple[proportions.Name, ...] = ("gpt2", "llama")
SIZES = [10e6, 15e6, 20e6, 33e6, 50e6, 70e6, 100e6, 124e6, 160e6, 250e6, 355e6, 500e6, 774e6, 1e9,
         1.3e9, 1.5e9, 2e9, 2.7e9, 3e9]  # fmt: skip
KINDS_AND_SIZES: list[tuple[proportions.Name, float]] = [
    *(("gpt2", size) for size in SIZES), *(("llama", size) for size in SIZES[::3])
]  # fmt: skip


def gpt2(layers: int, width: int, entries: int, length: int = 1024) -> Shape:
    return Shape(
        Model(n_layer=layers, n_embd=width, n_head=width // 64, n_positions=length), entries
    )


@given(st.floats(10e6, 3e9), st.sampled_from(proportions.VOCABULARIES), st.sampled_from(KINDS))
def test_every_size_is_met_within_the_tolerance(
    size: float, most_entries: int, kind: proportions.Name
) -> None:
    shape, _ = shape_of(size, most_entries, kind)
    model = shape.model
    assert abs(shape.parameters - size) <= proportions.TOLERANCE * size
    assert model.architecture == kind
    assert model.n_embd == model.n_head * (128 if kind == "llama" and model.n_embd >= 2048 else 64)
    assert shape.vocab_size <= most_entries
    assert shape.embedding <= shape.parameters / 3
    if kind == "llama":
        assert model.n_kv_head == model.n_head / 2
        assert model.n_inner == 3.5 * model.n_embd
        assert model.n_inner % 64 == 0  # for the matrix units of a GPU


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (gpt2(12, 768, 50_257), 124_439_808),  # GPT-2, as transformers counts it
        (gpt2(24, 1024, 50_257), 354_823_168),
        (gpt2(36, 1280, 50_257), 774_030_080),
        (gpt2(48, 1600, 50_257), 1_557_611_200),
        (gpt2(48, 1600, 50_000), 1_557_200_000),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_the_parameters_are_those_of_gpt2(shape: Shape, parameters: int) -> None:
    assert shape.parameters == parameters


@pytest.mark.parametrize(
    ("size", "kind", "layers", "width", "like"),
    [
        (124e6, "gpt2", 12, 768, "GPT-2"),
        (350e6, "gpt2", 24, 1024, "GPT-2 medium"),
        (760e6, "gpt2", 36, 1280, "GPT-2 large"),
        (1.5e9, "gpt2", 48, 1600, "GPT-2 XL"),
        (2.7e9, "gpt2", 32, 2560, "GPT-3 2.7B"),
        (1.1e9, "llama", 16, 2048, "llm-jp v4 1.3B"),
    ],
)
def test_a_published_size_has_the_published_shape(
    size: float, kind: proportions.Name, layers: int, width: int, like: str
) -> None:
    shape, why = shape_of(size, architecture=kind)
    assert (shape.model.n_layer, shape.model.n_embd) == (layers, width)
    assert why == f"the shape of {like}"


def test_the_llama_of_a_published_size_is_the_one_in_configs() -> None:
    own = load_recipe(Path("llama-1b-ja"), []).model
    found = shape_of(1.1e9, architecture="llama")[0].model
    assert found == own.model_copy(update={"pad_vocab_to": None, "rope_theta": found.rope_theta})


def test_between_published_sizes_the_width_per_layer_is_between_theirs() -> None:
    small, between, large = (shape_of(size)[0].width_per_layer for size in (124e6, 220e6, 350e6))
    assert large < between < small
    assert 50 < shape_of(30e6)[0].width_per_layer < 80
    of_llama = [shape_of(size, architecture="llama")[0].width_per_layer for size in (345e6, 1.5e9)]
    assert 43 < of_llama[0] < 77 < of_llama[1] < 110


def test_beyond_published_sizes_the_nearest_is_named() -> None:
    assert shape_of(10e6)[1].endswith("the nearest to the 64 of GPT-2, the smallest published")
    assert shape_of(3e9)[1].endswith("to the 80 of GPT-3 2.7B, the largest published")
    assert shape_of(10e6, architecture="llama")[1].endswith(
        "of llm-jp-3 150M, the smallest published"
    )


@pytest.mark.parametrize(
    ("size", "entries", "tied"),
    [(124e6, 50_000, True), (345e6, 50_000, False), (10e6, 8_000, True), (15e6, 16_000, True)],
)
def test_a_small_llama_is_tied_before_its_vocabulary_becomes_smaller(
    size: float, entries: int, tied: bool
) -> None:
    shape, _ = shape_of(size, architecture="llama")
    assert (shape.vocab_size, shape.model.tie_embeddings) == (entries, tied)


def test_batch_and_rate_are_those_of_the_paper() -> None:
    # DeepSeek LLM 7B and 67B over 2 T tokens: batches of 2,304 and 4,608 blocks of 4,096 tokens, rates of
    # 4.2e-4 and 3.2e-4 (its table 2), within the band that it calls near-optimal.
    for layers, width, blocks, rate in ((30, 4096, 2304, 4.2e-4), (95, 8192, 4608, 3.2e-4)):
        compute = gpt2(layers, width, 102_400, 4096).compute(2e12)
        assert dial.batch_of(compute) == pytest.approx(blocks * 4096, rel=0.25)
        assert dial.rate_of(compute) == pytest.approx(rate, rel=0.15)
    assert dial.rate_of(1e12) == dial.rate_of(1e17) == pytest.approx(2.34e-3, rel=0.01)
    assert dial.batch_of(1e17) == pytest.approx(1.06e5, rel=0.01)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 12])
@pytest.mark.parametrize(("kind", "size"), KINDS_AND_SIZES)
def test_a_plan_adds_up(size: float, ranks: int, kind: proportions.Name) -> None:
    made = plan(Request(size, architecture=kind), Machine(ranks, 40e9))
    assert made.global_batch % (made.micro_batch * ranks) == 0
    assert made.tokens == 20 * made.shape.parameters
    tokens = made.steps * made.global_batch * 1024
    assert 0 <= tokens - made.tokens < made.global_batch * 1024
    assert made.warmup_steps == min(2000, made.steps // 10)
    wanted = dial.batch_of(made.shape.compute(made.tokens)) / 1024
    assert abs(math.log2(made.global_batch / wanted)) < 1.1


def test_a_larger_model_has_a_larger_batch_and_a_smaller_rate() -> None:
    plans = [plan(Request(size), NODE) for size in SIZES]
    for less, more in itertools.pairwise(plans):
        assert less.global_batch <= more.global_batch
        assert less.learning_rate >= more.learning_rate
        assert less.micro_batch >= more.micro_batch or less.global_batch < 128


def test_what_does_not_fit_is_offloaded_or_computed_again() -> None:
    assert plan(Request(1.5e9, 30e9), NODE).micro_batch == 8  # as configs/gpt2-xl-ja.yaml
    assert plan(Request(1.5e9, 30e9), NODE).deepspeed == "zero2"
    one = plan(Request(1.5e9, 30e9), Machine(1, 16e9))
    assert one.deepspeed == "zero2-offload"
    least = plan(Request(3e9, 30e9), Machine(1, 10e9))
    assert least.activation_checkpointing
    none = plan(Request(3e9, 30e9), Machine(1, 8e9))
    (why,) = [why for what, _, why in none.reasons if what == "micro-batch"]
    assert "exceed the 8 GB" in why


def test_each_choice_is_told_with_its_reason() -> None:
    told = {
        what: f"{how_much}; {why}"
        for what, how_much, why in plan(Request(1.5e9, 30e9), NODE).reasons
    }
    assert told["model"] == (
        "1.56 B parameters: 48 layers, 1,600 wide, 25 heads; 1.5 B requested; the shape of GPT-2 XL"
    )
    assert "arXiv 2401.02954" in told["global batch"]
    assert "GPT-3 1.3 B was trained with 0.0002" in told["learning rate"]
    assert told["tokens"] == "30 B; requested"
    assert "optimizer" not in told
    assert told["decay"].startswith("cosine to 8.6e-05; ")


def test_a_llama_with_muon_and_wsd_is_told_with_its_reasons() -> None:
    made = plan(Request(1.1e9, 30e9, "llama", "muon", "wsd"), NODE)
    told = {what: f"{how_much}; {why}" for what, how_much, why in made.reasons}
    assert told["model"] == (
        "1.11 B parameters: 16 layers, 2,048 wide, 16 heads, 8 of keys and values, an MLP 7,168 wide; "
        "1.1 B requested; the shape of llm-jp v4 1.3B"
    )
    assert "arXiv 2502.16982" in told["optimizer"]
    assert told["decay"].startswith("wsd, 1-sqrt to 0 over the last 10% of the steps; ")
    assert told["learning rate"].endswith("were trained with 0.0003")


def test_muon_is_never_offloaded() -> None:
    tight = Machine(1, 30e9)
    assert plan(Request(1.5e9, 30e9), tight).deepspeed == "zero2-offload"
    made = plan(Request(1.5e9, 30e9, optimizer="muon"), tight)
    assert made.activation_checkpointing
    assert made.deepspeed == "zero2"


def test_between_nodes_gradients_are_reduced_once_a_step_if_that_fits() -> None:
    nodes = replace(NODE, ranks=16, nodes=2)
    made = plan(Request(1.5e9, 30e9), nodes)
    assert made.deepspeed == "zero1"
    assert "ZeRO-1" in {what: why for what, _, why in made.reasons}["micro-batch"]
    assert plan(Request(3e9, 30e9), replace(nodes, memory=24e9)).deepspeed != "zero1"
