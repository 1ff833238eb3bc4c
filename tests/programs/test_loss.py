"""The loss a chunk at a time: its value, its gradients, what it computes, and the memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from kit.models.architecture import Activations
from kit.plan import memory
from kit.plan.memory import Setup
from kit.training import loss
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TOKENS, WIDTH, ENTRIES, ROWS = 24, 16, 50, 64
CHUNKS = [1, 5, 8, 24, 1000, None]  # 5 does not divide
Z = [None, 1e-2]


def drawn(dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states and weight, whose padding rows would have all of the probability, and labels."""
    chance = torch.Generator().manual_seed(seed)
    hidden = torch.randn(TOKENS, WIDTH, generator=chance).to(dtype).requires_grad_()
    weight = 0.5 * torch.randn(ROWS, WIDTH, generator=chance)
    weight[ENTRIES:] *= 100
    labels = torch.randint(0, ENTRIES, (TOKENS,), generator=chance)
    return hidden, weight.to(dtype).requires_grad_(), labels


def of(given: tuple[Tensor, Tensor, Tensor], chunk: int | None, z: float | None) -> loss.Losses:
    return loss.mean(*given, vocab_size=ENTRIES, chunk=chunk, z=z)


def expected(
    given: tuple[Tensor, Tensor, Tensor], z: float | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Objective, cross-entropy and gradients of the same numbers, by torch's functions in `dtype`."""
    hidden, weight = (one.detach().to(dtype).requires_grad_() for one in given[:2])
    logits = hidden @ weight[:ENTRIES].T
    cross_entropy = F.cross_entropy(logits, given[2])
    objective = cross_entropy + (z or 0.0) * logits.logsumexp(-1).square().mean()
    return objective, cross_entropy, *torch.autograd.grad(objective, (hidden, weight))


@pytest.mark.parametrize("z", Z)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_in_fp32_it_is_the_plain_loss_with_its_gradients(
    chunk: int | None, z: float | None
) -> None:
    given = drawn()
    found = of(given, chunk, z)
    found.objective.backward()
    objective, cross_entropy, *gradients = expected(given, z, torch.float32)
    torch.testing.assert_close(found.objective, objective, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.cross_entropy, cross_entropy.detach(), rtol=1e-6, atol=0)
    assert not found.cross_entropy.requires_grad
    if z is None:
        assert found.z_loss is None
    else:
        torch.testing.assert_close(
            found.z_loss, (objective - cross_entropy).detach(), rtol=1e-5, atol=0
        )
    for one, gradient in zip(given[:2], gradients, strict=True):
        torch.testing.assert_close(one.grad, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("z", Z)
def test_its_gradients_are_those_of_its_value_in_fp64(z: float | None) -> None:
    hidden, weight, labels = drawn(torch.float64)

    def objective(some: Tensor, rows: Tensor) -> Tensor:
        return loss.mean(some, rows, labels[:7], vocab_size=9, chunk=3, z=z).objective

    labels %= 9
    few = (hidden[:7, :4], weight[:10, :4])
    few = tuple(one.detach().clone().requires_grad_() for one in few)
    assert torch.autograd.gradcheck(objective, few)


@pytest.mark.parametrize("z", Z)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_16_bit_numbers_the_loss_has_the_digits_of_fp32_and_gradients_are_rounded_twice(
    dtype: torch.dtype, z: float | None
) -> None:
    given = drawn(dtype)
    found = of(given, 5, z)
    (found.objective * 2.0**16).backward()  # a loss scale, without which fp16 has no small numbers
    objective, cross_entropy, *gradients = expected(given, z, torch.float64)
    assert found.objective.dtype == torch.float32
    torch.testing.assert_close(found.objective.double(), objective, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.cross_entropy.double(), cross_entropy, rtol=1e-6, atol=0)
    half = torch.finfo(dtype).eps / 2  # of the gradient of each logit, and of the result
    for one, gradient in zip(given[:2], gradients, strict=True):
        assert one.grad is not None
        assert one.grad.dtype == dtype
        error = (one.grad.double() / 2.0**16 - gradient).abs()
        assert error.max() <= 4 * half * gradient.abs().max()


def test_in_fp16_the_gradient_of_an_entry_that_is_all_but_impossible_is_no_zero() -> None:
    hidden = torch.ones(1, 1, dtype=torch.float16, requires_grad=True)
    weight = torch.tensor([[0.0], [-20.0]], dtype=torch.float16, requires_grad=True)
    found = loss.mean(hidden, weight, torch.tensor([0]), vocab_size=2)  # e^-20 is 2e-9
    (found.objective * 2.0**16).backward()
    assert weight.grad is not None
    assert float(weight.grad[1, 0]) / 2.0**16 == pytest.approx(2.06e-9, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gradients_scale_with_the_loss_and_add_up(dtype: torch.dtype) -> None:
    given = drawn(dtype)
    of(given, 8, None).objective.backward()
    once = [one.grad.clone() for one in given[:2]]
    of(given, 8, None).objective.mul(4).backward()
    for one, first in zip(given[:2], once, strict=True):
        assert torch.equal(one.grad, (first + 4 * first if dtype is torch.float32 else one.grad))
        torch.testing.assert_close(one.grad, 5 * first)


def test_rows_that_fill_up_the_vocabulary_get_no_gradient() -> None:
    given = drawn()
    of(given, 5, 1e-2).objective.backward()
    assert not given[1].grad[ENTRIES:].any()
    assert given[1].grad[:ENTRIES].any(dim=1).all()


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name in ("aten::mm", "aten::addmm", "aten::addmm_")
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("chunk", [5, 24])
def test_logits_are_computed_once_and_the_backward_pass_multiplies_no_matrices(chunk: int) -> None:
    given, chunks = drawn(), -(-TOKENS // chunk)
    with Products() as forward:
        found = of(given, chunk, None)
    with Products() as backward:
        found.objective.backward()
    with Products() as again:
        recomputed = loss.recomputed(*given, vocab_size=ENTRIES, chunk=chunk, z=None)
        recomputed.objective.backward()
    assert (forward.count, backward.count, again.count) == (3 * chunks, 0, 4 * chunks)


@pytest.mark.parametrize("z", Z)
def test_without_autograd_there_are_logits_only(z: float | None) -> None:
    given = drawn()
    trained = of(given, 5, z)
    with torch.no_grad(), Products() as products:
        found = of(given, 5, z)
    assert products.count == 5
    assert found.objective.equal(trained.objective)
    assert found.cross_entropy.equal(trained.cross_entropy)


@pytest.mark.parametrize("z", Z)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_without_wide_products_recomputes_the_same(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, z: float | None
) -> None:
    given, other = drawn(dtype), drawn(dtype)
    found = of(given, 5, z)
    monkeypatch.setattr(loss, "_has_wide_products", lambda _: False)
    again = of(other, 5, z)
    digits = 1e-6 if dtype is torch.float32 else 1e-3  # the format of its logits
    torch.testing.assert_close(again, found, rtol=digits, atol=0)
    for losses in (found, again):
        (losses.objective * 2.0**12).backward()
    for one, two in zip(given[:2], other[:2], strict=True):
        scale = float(one.grad.abs().max())
        torch.testing.assert_close(two.grad, one.grad, rtol=0, atol=5 * digits * scale)


def peak(work: Callable[[], object]) -> int:
    """The most bytes of tensors that `work` holds at a time, as torch's allocator counts them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    result: Any = seen.profiler.kineto_results
    events = [event for event in result.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


SETUP = Setup(
    layer=Activations(0, 0), outer=Activations(0, 0), parameters=0, layers=1, width=64, heads=1, length=256,
    rows=5056, micro_batch=2, item=4, chunk=64, gpu=False,
)  # fmt: skip
SHAPES = {
    "most of it logits": SETUP,
    "most of it the weight's gradient": replace(SETUP, width=256),
    "all logits": replace(SETUP, chunk=None),
    "16 bits": replace(SETUP, item=2),
    "16 bits and a wide model": replace(SETUP, item=2, width=512),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_takes_the_memory_that_the_plan_says(shape: str) -> None:
    setup = SHAPES[shape]
    dtype = torch.float32 if setup.item == 4 else torch.bfloat16
    hidden = torch.randn(setup.tokens, setup.width).to(dtype).requires_grad_()
    weight = torch.randn(setup.rows, setup.width).to(dtype).requires_grad_()
    labels = torch.randint(0, setup.rows, (setup.tokens,))

    def work() -> None:
        found = loss.mean(hidden, weight, labels, vocab_size=setup.rows, chunk=setup.chunk)
        found.objective.backward()

    took = peak(work)
    (planned,) = (part.bytes for part in memory.parts(setup) if part.name == "logits")
    assert took == pytest.approx(planned, rel=0.02)


# Triton's interpreter runs the kernels of a GPU on a CPU.
LIGER = """
import sys, torch
from kit.training import loss
from tests.programs import test_loss as by
for dtype in (torch.float32, torch.bfloat16):
    for z in by.Z:
        given = by.drawn(dtype)
        found = loss.mean_by_liger(*given, vocab_size=by.ENTRIES, z=z)
        (2 * found.objective).backward()
        objective, cross_entropy, *gradients = by.expected(given, z, torch.float64)
        digits = 1e-6 if dtype is torch.float32 else 2e-3
        torch.testing.assert_close(found.objective.double(), objective, rtol=digits, atol=0)
        torch.testing.assert_close(found.cross_entropy.double(), cross_entropy, rtol=digits, atol=0)
        if z is None:
            assert found.z_loss is None
        else:
            term = objective - cross_entropy
            torch.testing.assert_close(found.z_loss.double(), term, rtol=5 * digits, atol=0)
        for one, gradient in zip(given[:2], gradients, strict=True):
            atol = 10 * digits * float(gradient.abs().max())
            torch.testing.assert_close(one.grad.double(), 2 * gradient, rtol=0, atol=atol)
        with torch.no_grad():
            assert loss.mean_by_liger(*given, vocab_size=by.ENTRIES, z=z).objective.equal(found.objective)
"""


def test_ligers_kernels_give_the_same() -> None:
    pytest.importorskip("liger_kernel", reason="pip install 'ekiden[liger]'")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", LIGER], cwd=ROOT, env=environment, check=True)
