"""What holds of every architecture: its checkpoints, its padded rows, its attention, its positions.

GPT-2's own tests are those of the engine, of weights and of samples; here they are held for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kit.models import architectures
from kit.training import bit_facts, weights
from kit.training.device import Device
from kit.training.language_model import LanguageModel, release_weights, to_release
from tests.architectures import SHAPES

from .test_engine import (
    SMALL,
    STAGES,
    VOCABULARY,
    blocks,
    engine,
    engine_to_load,
    state,
    step,
    third_step,
    universal,
)
from .test_samples import PROMPTS, written
from .test_training import loss_and_gradients

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir

OTHERS = {name: shape for name, shape in SHAPES.items() if name != "gpt2"}
each = pytest.mark.parametrize("shape", OTHERS.values(), ids=OTHERS)
mostly_long = pytest.mark.parametrize(
    "shape",
    [
        pytest.param(OTHERS["llama"], id="llama"),
        pytest.param(OTHERS["qwen3"], id="qwen3", marks=pytest.mark.long),
    ],
)


def stage(number: int, shape: str, *, long: bool = True) -> Any:
    """A stage of ZeRO with a shape."""
    marks = [pytest.mark.long] if long else []
    return pytest.param(*STAGES[number], OTHERS[shape], id=f"{number}-{shape}", marks=marks)


# Each stage and each shape once; all of both with the long tests.
QUICK = {(2, "llama"), (3, "qwen3")}
PAIRS = [
    stage(number, shape, long=(number, shape) not in QUICK)
    for number in range(4)
    for shape in OTHERS
]
under_zero = pytest.mark.parametrize(("deepspeed", "precision", "shape"), PAIRS)
# All that has another world size.
on_other_ranks = pytest.mark.parametrize(("deepspeed", "precision", "shape"), PAIRS[len(OTHERS) :])


def write_file(workdir: Workdir, deepspeed: str) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")


@under_zero
def test_a_state_that_is_loaded_goes_on_as_if_it_had_never_left(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str, shape: tuple[str, ...]
) -> None:  # fmt: skip
    write_file(workdir, deepspeed)
    one = engine(workdir, precision, *shape)
    step(one, 0)
    state(one, 1, tmp_path / "state")
    step(one, 2)
    expected = state(one, 2, tmp_path / "one")
    other = engine_to_load(workdir, precision, *shape)
    other.load(tmp_path / "state", 1)
    step(other, 2)
    assert state(other, 2, tmp_path / "other") == expected


@on_other_ranks
def test_a_universal_checkpoint_goes_on_with_the_same_weights(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str, shape: tuple[str, ...]
) -> None:  # fmt: skip
    write_file(workdir, deepspeed)
    one = engine(workdir, precision, *shape)
    step(one, 0)
    step(one, 2)
    state(one, 2, tmp_path / "state")
    universal(tmp_path / "state", tmp_path / "universal")
    expected = third_step(engine(workdir, precision, *shape), tmp_path / "state")
    moved = third_step(
        engine_to_load(workdir, precision, *shape, universal=True), tmp_path / "universal"
    )
    assert moved.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(moved[name], value), name


@under_zero
def test_rotary_positions_stay_in_fp32(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str, shape: tuple[str, ...]
) -> None:  # fmt: skip
    write_file(workdir, deepspeed)
    recipe = workdir.recipe(*SMALL, *shape)
    exact = LanguageModel(recipe, VOCABULARY).decoder.rotary_emb.inv_freq
    assert exact.dtype == torch.float32
    assert not torch.equal(exact, exact.bfloat16().float())
    one = engine_to_load(workdir, precision, *shape)
    fresh = engine(workdir, precision, *shape)
    step(fresh, 0)
    state(fresh, 1, tmp_path / "state")
    one.load(tmp_path / "state", 1)
    step(one, 2)
    released = to_release(recipe.model, VOCABULARY, torch.bfloat16)
    assert released.lm_head.weight.dtype == torch.bfloat16
    for decoder in (fresh._engine.module.decoder, one._engine.module.decoder, released.model):
        assert torch.equal(decoder.rotary_emb.inv_freq, exact)
        assert torch.equal(decoder.rotary_emb.original_inv_freq, exact)


@under_zero
def test_a_release_has_every_weight_of_a_checkpoint(
    workdir: Workdir, alone: None, tmp_path: Path, deepspeed: str, precision: str, shape: tuple[str, ...]
) -> None:  # fmt: skip
    write_file(workdir, deepspeed)
    padded = (precision, "model.pad_vocab_to=64", *shape)
    one = engine(workdir, *padded)
    step(one, 0)
    state(one, 1, tmp_path / "state")
    from deepspeed.utils import safe_get_full_fp32_param

    model = workdir.recipe(*SMALL, *shape).model
    masters = {
        name: (safe_get_full_fp32_param(value) if precision.endswith("bf16") else value).clone()
        for name, value in one._engine.module.named_parameters()
    }
    found = weights.read(tmp_path / "state", torch.float32, lambda: None)
    released = release_weights(found, model, VOCABULARY.size)
    expected = release_weights(masters, model, VOCABULARY.size)
    assert released.keys() - expected.keys() <= {"lm_head.weight"}  # of two that are tied
    assert ("lm_head.weight" in expected) == (not model.tie_embeddings)
    for name, value in expected.items():
        assert torch.equal(released[name].float(), value.float()), name
    made = to_release(model, VOCABULARY, torch.float32)
    missing, unknown = made.load_state_dict(released, strict=False)
    assert not unknown
    assert {*missing} <= ({"lm_head.weight"} if model.tie_embeddings else set())
    assert made.get_input_embeddings().weight.shape == made.lm_head.weight.shape == (50, 8)


@each
def test_rows_that_fill_up_the_vocabulary_are_never_trained_and_cut_off(
    workdir: Workdir, shape: tuple[str, ...]
) -> None:
    recipe = workdir.recipe(*SMALL, "model.pad_vocab_to=64", *shape)
    torch.manual_seed(0)
    model = LanguageModel(recipe, VOCABULARY)
    model(blocks()).backward()
    for rows in {model.causal.get_input_embeddings().weight, model.causal.lm_head.weight}:
        assert rows.shape == (64, 8)
        assert rows.grad[50:].abs().sum() == 0
        assert rows.grad[:50].abs().sum() > 0
    cut = release_weights(model.state_dict(), recipe.model, 50)
    plain = LanguageModel(workdir.recipe(*SMALL, *shape), VOCABULARY)
    plain.causal.load_state_dict(cut)
    assert torch.allclose(model(blocks()), plain(blocks()))


@mostly_long
def test_attention_is_causal_without_a_mask_for_the_compiler_too(
    workdir: Workdir, shape: tuple[str, ...]
) -> None:
    recipe = workdir.recipe(*SMALL, *shape)
    torch.manual_seed(0)
    model = LanguageModel(recipe, VOCABULARY)
    calls: list[tuple[Any, bool, bool]] = []

    def look(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        for node in graph.graph.nodes:
            if "scaled_dot_product" in str(node.target):
                given = node.kwargs
                calls.append((given["attn_mask"], given["is_causal"], given["enable_gqa"]))
        assert not any(_is_boolean_matrix(node) for node in graph.graph.nodes)
        return graph.forward

    compiled = torch.compile(model.decoder, backend=look)
    with torch.no_grad():
        found = compiled(blocks()[:, :8]).last_hidden_state
    # Grouped heads go to the kernel as they are: repeated, they would take memory.
    assert calls == [(None, True, True)] * recipe.model.n_layer
    architecture = architectures.of(recipe.model)
    stock = AutoModelForCausalLM.from_config(architecture.configuration(50, begin=1, end=2)).eval()
    stock.load_state_dict(model.causal.state_dict())
    assert stock.config._attn_implementation == "sdpa"  # what a release says
    assert torch.allclose(found, stock.model(blocks()[:, :8]).last_hidden_state, atol=1e-6)


def _is_boolean_matrix(node: Any) -> bool:
    value = node.meta.get("example_value")
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.dim() > 1


@each
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activation_checkpointing_changes_no_bit(
    workdir: Workdir, shape: tuple[str, ...], attention: str
) -> None:
    given = (*shape, f"model.attention={attention}", "model.n_layer=2")
    loss, gradients = loss_and_gradients(workdir, *given)
    again, found = loss_and_gradients(workdir, *given, "model.activation_checkpointing=true")
    assert again == loss
    assert len(found) == len(gradients)
    assert all((one == two).all() for one, two in zip(found, gradients, strict=True))


@each
def test_prompts_of_several_lengths_are_continued_together_as_each_alone(
    workdir: Workdir, shape: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    one = LanguageModel(workdir.recipe(*SMALL, *shape), VOCABULARY).eval()
    together = written(one, PROMPTS, 5)
    assert together == [written(one, [prompt], 5)[0] for prompt in PROMPTS]
    logits = one.causal(torch.tensor(together[:1])).logits
    assert logits.argmax(-1)[0, 2:-1].tolist() == together[0][3:]


@each
def test_the_record_has_the_attention_kernel_that_torch_takes_for_grouped_heads(
    workdir: Workdir, shape: tuple[str, ...]
) -> None:
    for precision in ("fp32", "bf16"):
        recipe = workdir.recipe(f"training.precision={precision}", *shape)
        assert bit_facts.attention(recipe, Device("cpu", 0)) == "flash"
