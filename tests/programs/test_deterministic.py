"""The operations of a training step against torch's list of those that are not deterministic on a GPU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kit.training import loss
from tests.conftest import ROOT

from .test_engine import blocks, engine, step

if TYPE_CHECKING:
    from tests.conftest import Workdir

# They add nothing: an element of the result depends on one of each argument.
ELEMENTWISE = {
    "_foreach_zero_", "_local_scalar_dense", "_to_copy", "_unsafe_view", "abs", "add", "add_",
    "addcdiv_", "addcmul_", "arange", "bitwise_and", "bitwise_and_", "bitwise_not", "bitwise_or",
    "cat", "clamp", "clone", "copy_",
    "div", "div_", "empty", "empty_like", "eq", "exp_", "fill_", "full_like", "gelu",
    "gelu_backward", "index",
    "isinf", "isnan", "le", "lerp_", "logical_and", "logical_not", "logical_or", "lt",
    "masked_fill", "masked_fill_", "mul", "mul_", "ne", "neg_", "new_zeros", "ones",
    "ones_like", "pow", "reciprocal",
    "scalar_tensor",
    "slice_backward", "sqrt", "stack", "sub", "sub_", "tanh", "tanh_backward", "tril", "where", "zero_",
    "zeros", "zeros_like",
}  # fmt: skip
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"  # in place of a GPU's
DEEPSPEED = 'training.deepspeed={{"zero_optimization":{{"stage":{}}}}}'
RECIPES = {
    "dropout": ("training.precision=bf16", "model.dropout=0.1"),
    "eager": ("training.precision=bf16", "model.attention=eager", DEEPSPEED.format(1)),
    "chunks": (
        "training.precision=fp16", "model.dropout=0", "training.loss_chunk=3",
        "model.activation=gelu_new", "model.pad_vocab_to=64", "model.activation_checkpointing=true",
    ),
    "ZeRO-3": ("training.precision=bf16", "training.z_loss=1e-4", DEEPSPEED.format(3)),
}  # fmt: skip
# fp16 on a GPU that recomputes the logits of each chunk.
RECIPES["an older GPU"] = RECIPES["chunks"]


class Operations(TorchDispatchMode):
    """Notes the operations that run, by name; those that only make a view are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.losses: list[torch.Size] = []
        self.counted: list[torch.dtype] = []
        self.scattered: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::").removeprefix("c10d::")
        if not func.is_view and not name.startswith("profiler::"):
            self.names.add(name.removeprefix(ATTENTION).removeprefix("_backward") or ATTENTION)
        if name == "nll_loss_forward":
            self.losses.append(args[0].shape)
        if name == "cumsum":
            self.counted.append(args[0].dtype)
        if name == "scatter_":
            self.scattered.append((args[1], args[2].shape[1]))
        return func(*args, **kwargs or {})


@pytest.fixture(params=RECIPES)
def operations(
    workdir: Workdir,
    alone: None,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Operations:
    """Those of a step, a validation, and a token of a sample."""
    if request.param == "an older GPU":
        monkeypatch.setattr(loss, "_has_wide_products", lambda _: False)
    one = engine(workdir, *RECIPES[request.param])
    step(one, 0)  # makes the optimizer's state
    with Operations() as seen:
        step(one, 2)
        one.validate(blocks())
        one.next_logits(blocks()[:, :8], torch.tensor([3]))
    seen.names -= {"randint", "lift_fresh"}  # of the test's blocks
    return seen


def test_torch_refuses_no_operation_of_training_in_deterministic_mode(
    operations: Operations,
) -> None:
    text = torch.use_deterministic_algorithms.__doc__ or ""
    listed = {
        name.rsplit(".", 1)[-1].lower().replace("_", "")
        for name in re.findall(r":(?:class|func):`(torch\.[\w.]+)`", text)
    }
    assert {"nllloss", "cumsum", "bmm", "scatteradd"} <= listed
    bare = {
        re.sub(r"(_forward|_backward)$", "", name).replace("_", "") for name in operations.names
    }
    assert bare & listed <= {"nllloss", "cumsum", "bmm", "gather", "scatter"}
    # Of these it means the loss of images, sums of floats, products with sparse matrices, the gradient of
    # a gather, which adds, and elements to which several are written.
    assert operations.losses or operations.scattered
    assert all(len(shape) == 2 for shape in operations.losses)
    assert not any(dtype.is_floating_point for dtype in operations.counted)
    assert not {"gather_backward", "scatter_add", "scatter_add_"} & operations.names
    assert set(operations.scattered) <= {(1, 1)}  # one of each row


def test_the_page_has_every_operation_that_adds(operations: Operations) -> None:
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    table = page.partition("## Bit-equality")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert operations.names - ELEMENTWISE - {ATTENTION} - named == set()
