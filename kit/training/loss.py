"""The loss of the next token, from hidden states: cross-entropy, with z-loss if wanted, a chunk at a time.

    losses = loss.mean(hidden, head.weight, labels, vocab_size=50_000, chunk=1024, z=1e-4)
    losses.objective.backward()
    losses.cross_entropy, losses.z_loss              # what the ledger shows

The logits of a chunk of tokens exist once. Their gradient is known as soon as they are, so the forward
pass turns it into the gradients of hidden states and weight; the backward pass only multiplies these by
the gradient of the loss. For c tokens of a vocabulary of V, in place of all logits at once, it holds
8 c V bytes, and an fp32 gradient of the weight from then to the backward pass.

Logits, softmax and sums over tokens are fp32, whatever the format of weights and hidden states (fp64 for
fp64); products of 16-bit matrices are rounded once, to fp32.

z-loss is `z` times the square of the logarithm of softmax's denominator, by which that stays near 1
(PaLM, arXiv 2204.02311, section 5: 1e-4).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

# In fp16 a probability below 6e-8 would be zero. Times this, the gradient of a logit stays below fp16's
# largest number (65,504) up to 1 + 2 z log Z = 63.
_FP16_SCALE = 2.0**10
_WIDE_PRODUCTS = (8, 0)  # compute capability from which cuBLAS gives fp32 from 16-bit matrices


class Losses(NamedTuple):
    """Means over tokens, in nats: what training minimises, and the two terms of it, detached."""

    objective: Tensor
    cross_entropy: Tensor
    z_loss: Tensor | None  # None without z-loss


def mean(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    vocab_size: int,
    chunk: int | None = None,
    z: float | None = None,
) -> Losses:
    """The losses of `hidden` [tokens, width] with an output layer `weight` [rows, width].

    `labels` int64 [tokens] are below `vocab_size`; the rows from there on are padding, and get no
    gradient. `chunk`: tokens whose logits exist at a time; None: all of them. On a GPU that cannot
    multiply 16-bit matrices to fp32, the backward pass computes the logits of each chunk again.
    """
    chunk = chunk or len(hidden)
    if not (torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)):
        sums = _without_gradient(hidden, weight, labels, vocab_size, chunk, z)
    elif _has_wide_products(hidden):
        sums = Losses(*_InForwardPass.apply(hidden, weight, labels, vocab_size, chunk, z))  # type: ignore[no-untyped-call]
    else:
        sums = recomputed(hidden, weight, labels, vocab_size=vocab_size, chunk=chunk, z=z)
    return Losses._make(None if one is None else one / len(labels) for one in sums)


def mean_by_liger(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    vocab_size: int,
    chunk: int | None = None,  # noqa: ARG001  it chooses its own
    z: float | None = None,
) -> Losses:
    """As `mean`, by the Triton kernels of liger-kernel 0.8.5, on a GPU.

    By its source: logits are rounded to the format of `hidden`, and so is the gradient of each before it is
    multiplied by that of the loss; the host waits for the GPU in both passes (`target_mask.sum().item()`,
    `torch.equal`). The rows of padding are left out, so they make no product quicker.
    """
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    found = liger_fused_linear_cross_entropy(
        hidden,
        weight[:vocab_size],
        labels,
        lse_square_scale=z or 0.0,
        reduction="mean",
        return_z_loss=True,
        accum_dtype=torch.float32,
    )
    cross_entropy, z_loss = (found.loss - found.z_loss).detach(), found.z_loss.detach()
    return Losses(found.loss, cross_entropy, None if z is None else z_loss)


def recomputed(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, vocab_size: int, chunk: int, z: float | None
) -> Losses:
    """The sums over tokens by torch's own loss; the backward pass recomputes the logits of each chunk."""
    of_chunks = [
        checkpoint(
            plain, part, weight, goals, vocab_size, z, use_reentrant=False, preserve_rng_state=False
        )
        for part, goals in zip(torch.split(hidden, chunk), torch.split(labels, chunk), strict=True)
    ]
    # Of each term one addition after the other, from 0.
    return Losses._make(
        None if None in terms else sum(terms) for terms in zip(*of_chunks, strict=True)
    )


def plain(
    hidden: Tensor, weight: Tensor, labels: Tensor, vocab_size: int, z: float | None
) -> Losses:
    """The sums over tokens, as torch computes and differentiates them: 12 bytes a logit and more."""
    logits = F.linear(hidden, weight)[:, :vocab_size]
    logits = logits.to(_wide(hidden.dtype))
    objective = F.cross_entropy(logits, labels, reduction="sum")
    cross_entropy = objective.detach()
    if z is None:
        return Losses(objective, cross_entropy, None)
    z_loss = z * logits.logsumexp(-1).square().sum()
    return Losses(objective + z_loss, cross_entropy, z_loss.detach())


class _InForwardPass(torch.autograd.Function):
    """The sums over tokens; their gradients are computed with them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        vocab_size: int,
        chunk: int,
        z: float | None,
    ) -> tuple[Tensor | None, ...]:
        scale = _FP16_SCALE if hidden.dtype is torch.float16 else 1.0
        of_hidden = torch.empty_like(hidden, dtype=_wide(hidden.dtype))
        of_weight = torch.zeros_like(weight, dtype=_wide(hidden.dtype))
        parts = (torch.split(tensor, chunk) for tensor in (hidden, labels, of_hidden))
        of_chunks = [
            _with_gradients(part, weight, goals, vocab_size, z, scale, result, of_weight)
            for part, goals, result in zip(*parts, strict=True)
        ]
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.scale, ctx.dtypes = scale, (hidden.dtype, weight.dtype)
        objective, *terms = _sums(of_chunks, z)
        ctx.mark_non_differentiable(*(one for one in terms if one is not None))
        return objective, *terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradient / ctx.scale
        of_hidden, of_weight = (
            torch.mul(saved, factor, out=torch.empty_like(saved, dtype=dtype))
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return of_hidden, of_weight, None, None, None, None


def _with_gradients(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    vocab_size: int,
    z: float | None,
    scale: float,
    of_hidden: Tensor,
    of_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """The figures of a chunk's tokens; its gradients, times `scale`, go to `of_hidden` and `of_weight`."""
    log_probabilities, *of_tokens = _of_labels(_logits(hidden, weight, vocab_size), labels)
    gradient = _gradient(log_probabilities, labels, of_tokens[1], z)
    if scale != 1:
        gradient.mul_(scale)
    narrow = gradient.to(hidden.dtype)
    del log_probabilities, gradient  # the same memory; the products may need as much
    of_hidden.copy_(_product(narrow, weight))
    _add_product(of_weight, narrow.T, hidden)
    return of_tokens[0], of_tokens[1]


def _without_gradient(
    hidden: Tensor, weight: Tensor, labels: Tensor, vocab_size: int, chunk: int, z: float | None
) -> Losses:
    of_chunks = []
    with torch.no_grad():
        for part, goals in zip(torch.split(hidden, chunk), torch.split(labels, chunk), strict=True):
            _, *of_tokens = _of_labels(_logits(part, weight, vocab_size), goals)
            of_chunks.append((of_tokens[0], of_tokens[1]))
        return _sums(of_chunks, z)


def _logits(hidden: Tensor, weight: Tensor, vocab_size: int) -> Tensor:
    """Logits [tokens, rows]. Those of padding rows are minus infinity: probability and gradient are zero.

    They are multiplied with the others, since GPUs are quicker with a number of rows that has factors of 2.
    """
    logits = _product(hidden, weight.T)
    logits[:, vocab_size:].fill_(-torch.inf)
    return logits


def _of_labels(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities [tokens, rows]; of each token the loss, and the logarithm of the denominator."""
    goals = labels[:, None]
    log_probabilities = logits.log_softmax(-1)
    loss = log_probabilities.gather(1, goals).neg_()
    return log_probabilities, loss, logits.gather(1, goals).add_(loss)


def _gradient(log_probabilities: Tensor, labels: Tensor, log_z: Tensor, z: float | None) -> Tensor:
    """The gradient of the sum of losses by the logits, in the memory of their log-probabilities."""
    gradient = log_probabilities.exp_()
    if z is not None:
        gradient.mul_(1 + 2 * z * log_z)
    goals = labels[:, None]
    return gradient.scatter_(1, goals, gradient.gather(1, goals).sub_(1))


def _sums(of_chunks: list[tuple[Tensor, Tensor]], z: float | None) -> Losses:
    """The sums over all tokens, in one order however they were cut."""
    losses, logarithms = (torch.cat(parts) for parts in zip(*of_chunks, strict=True))
    cross_entropy = losses.sum()
    if z is None:
        return Losses(cross_entropy, cross_entropy.clone(), None)
    z_loss = z * logarithms.square().sum()
    return Losses(cross_entropy + z_loss, cross_entropy, z_loss)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


def _has_wide_products(matrix: Tensor) -> bool:
    """Whether its products can be rounded to fp32, not to its own format."""
    narrow_gpu = matrix.is_cuda and matrix.dtype in (torch.float16, torch.bfloat16)
    return not narrow_gpu or torch.cuda.get_device_capability(matrix.device) >= _WIDE_PRODUCTS


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices of one format, in fp32 at least."""
    wide = _wide(a.dtype)
    if a.dtype is wide:
        return a @ b
    if not a.is_cuda:  # the products of 16-bit numbers are exact in fp32
        return a.to(wide) @ b.to(wide)
    return torch.mm(a, b, out_dtype=wide) if _has_wide_products(a) else (a @ b).to(wide)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a product to `total`, which is fp32 at least."""
    if a.is_cuda and a.dtype is not total.dtype:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))
