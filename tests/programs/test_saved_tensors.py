"""The plan's activations against those that the model really keeps, counted by PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kit.data.tokens import TokenizerInfo
from kit.plan import memory, shape
from kit.relay import resolve
from kit.training.language_model import LanguageModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.plan.memory import Setup
    from tests.conftest import Workdir

OVERRIDES = (
    "model.n_embd=64", "model.n_head=4", "model.n_positions=64", "training.labels=lookahead",
    "training.micro_batch=2", "training.global_batch=4",
)  # fmt: skip


def kept(workdir: Workdir, layers: int, *overrides: str, logits: bool = True) -> tuple[int, Setup]:
    """Bytes that a forward pass saves for the backward pass, without weights; and its setup.

    Without `logits`, all but the loss.
    """
    given = [*OVERRIDES, f"model.n_layer={layers}", *overrides]
    project = resolve.load(workdir.recipe_file, given, "local")
    setup = shape.setup(project.recipe, project.cluster)
    model = LanguageModel(project.recipe, TokenizerInfo(setup.rows, 1, 2))
    if project.recipe.training.precision == "bf16":
        model.bfloat16()
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    blocks = torch.randint(0, setup.rows, (setup.micro_batch, setup.length + 1))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        if logits:
            model(blocks)
        else:
            model.causal(blocks[:, 1:])
    return sum(storage.nbytes() for storage in saved.values()), setup


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("activation", ["gelu_pytorch_tanh", "gelu_new", "gelu"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_layer_keeps_the_bytes_that_the_plan_says(
    workdir: Workdir, attention: str, activation: str, dropout: float
) -> None:
    model = (
        f"model.attention={attention}", f"model.activation={activation}", f"model.dropout={dropout}",
    )  # fmt: skip
    less, _ = kept(workdir, 1, *model)
    more, setup = kept(workdir, 2, *model)
    assert more - less == pytest.approx(memory.layer_bytes(setup), rel=0.005)


LLAMA = ("model.architecture=llama", "model.n_kv_head=2", "model.rope_theta=5e5")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("qk_norm", ["true", "false"])
def test_a_layer_of_llama_keeps_the_bytes_that_the_plan_says(
    workdir: Workdir, attention: str, precision: str, qk_norm: str
) -> None:
    model = (
        *LLAMA, f"model.attention={attention}", f"training.precision={precision}",
        f"model.qk_norm={qk_norm}",
    )  # fmt: skip
    less, _ = kept(workdir, 1, *model)
    more, setup = kept(workdir, 2, *model)
    assert more - less == pytest.approx(memory.layer_bytes(setup), rel=0.005)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", [(), LLAMA], ids=["gpt2", "llama"])
def test_around_the_layers_is_kept_what_the_plan_says(
    workdir: Workdir, model: tuple[str, ...], precision: str
) -> None:
    found, setup = kept(workdir, 1, *model, f"training.precision={precision}", logits=False)
    around = next(part for part in memory.parts(setup) if part.name == "around them").bytes
    if model:  # too small for the plan: cosines and sines of 16 angles for each position of a block
        around += 2 * 16 * setup.length * setup.item
    ids = 16 * setup.tokens  # at most, and as small
    assert found - memory.layer_bytes(setup) == pytest.approx(around, abs=ids)


def _products(_: object, a: Sequence[int], b: Sequence[int], **__: object) -> int:
    """Floating-point operations of addmm, from shapes."""
    return 2 * a[0] * a[1] * b[1]


@pytest.mark.parametrize(
    "model", [(), LLAMA, (*LLAMA, "model.tie_embeddings=true")], ids=["gpt2", "llama", "tied"]
)
def test_a_token_takes_the_operations_that_the_plan_says(
    workdir: Workdir, model: tuple[str, ...]
) -> None:
    given = [
        *OVERRIDES,
        "model.attention=eager",
        *model,
    ]  # no operations of SDPA are counted on a CPU
    recipe = resolve.load(workdir.recipe_file, given, "local").recipe
    built = LanguageModel(recipe, TokenizerInfo(shape.rows(recipe), 1, 2))
    blocks = torch.randint(0, shape.rows(recipe), (2, recipe.model.n_positions + 1))
    in_place = {torch.ops.aten.addmm_: _products}  # of the loss; torch counts only the other form
    with FlopCounterMode(display=False, custom_mapping=in_place) as counted:
        built(blocks).backward()
    planned = 2 * recipe.model.n_positions * shape.flops_per_token(recipe)
    # Norms, biases and positions count as parameters, but multiply no matrices.
    assert counted.get_total_flops() == pytest.approx(planned, rel=0.05)


def test_with_checkpointing_a_layer_keeps_its_input(workdir: Workdir) -> None:
    checkpointing = "model.activation_checkpointing=true"
    less, _ = kept(workdir, 1, checkpointing)
    more, setup = kept(workdir, 2, checkpointing)
    parts = [
        {part.name: part.bytes for part in memory.parts(replace(setup, layers=layers))}
        for layers in (1, 2)
    ]
    assert more - less == parts[1]["activations"] - parts[0]["activations"]
