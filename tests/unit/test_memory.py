"""The memory of a rank, against figures worked out by hand from the papers, and what must always hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.config.recipe import Model
from kit.models.gpt2 import Gpt2
from kit.plan import memory
from kit.plan.memory import Setup

if TYPE_CHECKING:
    from kit.models.architecture import Activations


def gpt2(activation: Literal["gelu_new", "gelu_pytorch_tanh"]) -> Gpt2:
    return Gpt2(Model(n_layer=48, n_embd=1600, n_head=20, activation=activation))


def layer(activation: Literal["gelu_new", "gelu_pytorch_tanh"]) -> Activations:
    return gpt2(activation).layer_activations()


XL = Setup(
    layer=layer("gelu_pytorch_tanh"),
    outer=gpt2("gelu_pytorch_tanh").outer_activations(),
    parameters=1_557_200_000,
    layers=48,
    width=1600,
    heads=20,
    length=1024,
    rows=50_000,
    ranks=8,
    micro_batch=3,
    chunk=1024,
)
SETUPS = st.builds(
    replace,
    st.just(XL),
    ranks=st.sampled_from([1, 2, 3, 8, 64]),
    micro_batch=st.integers(1, 16),
    stage=st.integers(0, 3),
    offload=st.booleans(),
    item=st.sampled_from([2, 4]),
    gradient_item=st.sampled_from([2, 4]),
    fused_attention=st.booleans(),
    layer=st.sampled_from([layer("gelu_pytorch_tanh"), layer("gelu_new")]),
    dropout=st.booleans(),
    checkpointing=st.booleans(),
    chunk=st.sampled_from([None, 256, 1024, 4096]),
    gpu=st.booleans(),
)


def bytes_of(setup: Setup) -> dict[str, float]:
    return {part.name: part.bytes for part in memory.parts(setup)}


def test_the_states_of_gpt2_xl_are_those_of_the_zero_paper() -> None:
    # Mixed precision with Adam, psi parameters on n ranks (section 5): (2 + 2 + 12) psi without ZeRO;
    # 2 psi + (2 + 12) psi / n with gradients and optimizer partitioned; 16 psi / n with weights as well.
    psi = 1_557_200_000
    for stage, expected in ((0, 16 * psi), (1, 4 * psi + 12 * psi / 8), (2, 2 * psi + 14 * psi / 8),
                            (3, 16 * psi / 8)):  # fmt: skip
        states = bytes_of(replace(XL, stage=stage, gradient_item=2))
        assert sum(states[name] for name in ("weights", "gradients", "optimizer")) == expected


def test_the_paper_on_activations_is_met_with_its_eager_attention_and_dropout() -> None:
    # s b h (34 + 5 a s / h) with a = 20, s = 1,024, h = 1,600: 1,024 x 3 x 1,600 x (34 + 64).
    found = memory.layer_bytes(replace(XL, fused_attention=False, dropout=True))
    assert found == pytest.approx(1024 * 3 * 1600 * 98, rel=0.001)


def test_a_layer_of_fused_kernels_keeps_sixteen_numbers_per_token_and_width() -> None:
    # Measured with PyTorch's hooks on saved tensors: 16.05 x tokens x width x 2 bytes.
    found = memory.layer_bytes(replace(XL, micro_batch=8))
    assert found == pytest.approx(16.05 * 8 * 1024 * 1600 * 2, rel=0.002)


def test_the_unfused_activation_keeps_three_more_of_four_widths() -> None:
    found = memory.layer_bytes(replace(XL, layer=layer("gelu_new")))
    assert found == pytest.approx(28.05 * 3 * 1024 * 1600 * 2, rel=0.002)


def test_the_layer_of_the_article_keeps_sixty_one() -> None:
    # Measured likewise: eager attention, gelu_new, dropout.
    article = replace(XL, fused_attention=False, layer=layer("gelu_new"), dropout=True)
    assert memory.layer_bytes(article) == pytest.approx(61 * 3 * 1024 * 1600 * 2, rel=0.002)


def test_the_logits_of_eight_blocks_at_once_take_three_gigabytes() -> None:
    eight = replace(XL, micro_batch=8)
    gradients = 4 * (50_000 + 8 * 1024) * 1600  # of the output layer's weight and input, in fp32
    assert bytes_of(replace(eight, chunk=None))["logits"] == 8 * 1024 * 50_000 * 8 + gradients
    assert bytes_of(eight)["logits"] == 1024 * 50_000 * 8 + gradients
    # The backward pass has no logits: its results may be larger.
    few = bytes_of(replace(eight, chunk=64))["logits"]
    assert few == 2 * (50_000 + 8 * 1024) * 1600 + gradients


def test_a_gpu_that_recomputes_logits_holds_their_gradients_as_well() -> None:
    older = replace(XL, bf16=False)
    assert bytes_of(older)["logits"] == 1024 * 50_000 * 12 + 2 * 2 * 50_000 * 1600


def test_liger_chooses_a_chunk_by_the_width() -> None:
    # 32 times as many entries as numbers in a hidden state: 3,072 tokens in chunks of 128.
    found = bytes_of(replace(XL, liger=True, chunk=None))["logits"]
    assert found == 2 * 2 * 50_000 * 1600 + 4 * 50_000 * 1600 + 2 * 3072 * 1600
    one = bytes_of(replace(XL, liger=True, width=64, micro_batch=1, length=64))["logits"]
    assert one == 2 * 2 * 50_000 * 64 + 4 * 50_000 * 64 + 2 * 64 * 64


def test_an_offloaded_optimizer_is_in_host_memory() -> None:
    offloaded = replace(XL, offload=True, gradient_item=2)
    parts = bytes_of(offloaded)
    assert parts["optimizer"] == parts["gradients"] == 0
    # Accumulated in fp32 from 16 bits, gradients stay on the GPU, a part on each rank.
    in_fp32 = bytes_of(replace(offloaded, gradient_item=4))
    assert in_fp32["gradients"] == 4 * 1_557_200_000 / 8
    assert memory.host_bytes(offloaded) == 16 * 1_557_200_000 / 8
    assert memory.host_bytes(XL) == 0


def test_gradients_that_cross_ranks_in_fp32_have_a_copy_of_their_bucket_for_it() -> None:
    # Two buckets and the slices of one, joined, in 16 bits; those of 8 million numbers more in 32 bits.
    setup = replace(XL, bucket=8_000_000)
    assert bytes_of(replace(setup, crossing_item=2))["buckets"] == 3 * 2 * 8_000_000
    assert bytes_of(setup)["buckets"] == (3 * 2 + 4) * 8_000_000
    # ZeRO-1 in fp16 fills the buckets with accumulated gradients.
    first = replace(setup, stage=1, bf16=False)
    assert bytes_of(replace(first, crossing_item=2))["buckets"] == (3 * 4 + 2) * 8_000_000
    assert bytes_of(first)["buckets"] == 3 * 4 * 8_000_000
    # ZeRO-3 has one, in the format in which it crosses, and joins its gradients to another.
    third = bytes_of(replace(setup, stage=3, crossing_item=2))["buckets"]
    assert bytes_of(replace(setup, stage=3))["buckets"] - third == 2 * 2 * 8_000_000


def test_zero1_in_bf16_copies_its_gradients_once_the_activations_are_gone() -> None:
    whole = replace(XL, stage=1, crossing_item=2)
    assert bytes_of(whole)["buckets"] == bytes_of(replace(whole, crossing_item=4))["buckets"] == 0
    small = replace(whole, micro_batch=1, checkpointing=True, chunk=64)
    activations = sum(
        bytes_of(small)[name] for name in ("activations", "around them", "backward pass", "logits")
    )
    assert activations < 2 * 1_557_200_000
    assert bytes_of(small)["buckets"] == 2 * 1_557_200_000 - activations


def test_zero1_costs_gpt2_xl_five_gigabytes_and_a_half_of_gradients_on_eight_ranks() -> None:
    first, second = (bytes_of(replace(XL, stage=stage)) for stage in (1, 2))
    assert first["gradients"] - second["gradients"] == 4 * 1_557_200_000 * 7 / 8  # 5.45 GB
    assert first["optimizer"] == second["optimizer"]


def test_a_checkpoint_of_gpt2_xl_takes_22_gigabytes() -> None:
    assert memory.checkpoint_bytes(XL.parameters, 2) == 14 * 1_557_200_000


def test_on_an_a100_eight_blocks_fit_and_sixteen_do_not() -> None:
    assert memory.largest(XL, 40e9, 64) == 8
    assert memory.largest(XL, 40e9, 66) == 6  # it divides a rank's blocks of a step
    assert memory.largest(XL, 1e9, 64) is None
    assert (memory.largest(replace(XL, checkpointing=True), 40e9, 64) or 0) > 8


@given(SETUPS)
def test_more_ranks_never_need_more_memory(setup: Setup) -> None:
    assert memory.total(replace(setup, ranks=2 * setup.ranks)) <= memory.total(setup)


@given(SETUPS)
def test_checkpointing_keeps_fewer_activations(setup: Setup) -> None:
    kept = [bytes_of(replace(setup, checkpointing=on))["activations"] for on in (True, False)]
    assert kept[0] < kept[1]


@given(SETUPS, st.integers(0, 2))
def test_a_higher_stage_of_zero_never_needs_more_for_its_states(setup: Setup, stage: int) -> None:
    def states(stage: int) -> float:
        parts = bytes_of(replace(setup, stage=stage, item=2))
        return sum(parts[name] for name in ("weights", "gradients", "optimizer"))

    assert states(stage + 1) <= states(stage)


@given(SETUPS)
def test_a_larger_micro_batch_needs_more_memory(setup: Setup) -> None:
    larger = replace(setup, micro_batch=setup.micro_batch + 1)
    assert memory.total(larger) > memory.total(setup)


@given(SETUPS, st.integers(1, 64))
def test_the_largest_micro_batch_fits_and_divides(setup: Setup, blocks: int) -> None:
    found = memory.largest(setup, 40e9, blocks)
    if found is not None:
        assert blocks % found == 0
        assert memory.total(replace(setup, micro_batch=found)) <= 40e9
    else:
        assert memory.total(replace(setup, micro_batch=1)) > 40e9
