"""Choose a model and its training settings for a size and a number of tokens, by published rules.

    chosen = plan(Request(1.5e9, 30e9), Machine(ranks=8, memory=40e9))
    chosen.shape                     # 48 layers, 1,600 wide
    chosen.reasons                   # each choice with its reason

- Shape and vocabulary: kit/plan/proportions.py.
- Tokens: 20 per parameter, unless a number is given (Hoffmann et al. 2022, arXiv 2203.15556).
- Batch and learning rate: 0.2920 C^0.3271 tokens and 0.3118 C^-0.1250, for the compute C = tokens x (6 N +
  12 layers width length) FLOP, N the parameters in the matrices of layers, 12 layers width^2 in a GPT-2
  (DeepSeek LLM, arXiv 2401.02954, section 3). They were fitted from 1e17 FLOP upward, with AdamW and models
  built like a Llama: below 1e17, the learning rate is that for it. With Muon they are where to begin: its
  updates have the size of AdamW's.
- Warm-up: 2,000 steps (the same paper), at most a tenth of all steps. Cosine decay to a tenth of the peak
  (Brown et al. 2020, appendix B; Hoffmann et al.; llm-jp), or wsd as in kit/plan/schedule.py.
- ZeRO: stage 2, or stage 1 between nodes, where a reduction at each micro-batch would wait for the network;
  the optimizer is offloaded if not even one block fits otherwise.
- Micro-batch: the largest power of two that fits in memory by kit/plan/memory.py, at most 16, and at most a
  rank's share of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from kit.models import architectures
from kit.output.quantities import size as bytes_of
from kit.plan import memory
from kit.plan.proportions import LENGTH, VOCABULARIES, Name, Shape, shape_of
from kit.plan.schedule import DECAY_SHAPE, DECAY_SHARE
from kit.plan.shape import of_model

if TYPE_CHECKING:
    from kit.plan.memory import Setup

TOKENS_PER_PARAMETER = 20
PADDING = 64  # rows of the embedding on a GPU: a multiple of this

_FITTED_FROM = 1e17  # FLOP
_GPT3_RATES = {125e6: 6e-4, 350e6: 3e-4, 760e6: 2.5e-4, 1.3e9: 2e-4, 2.7e9: 1.6e-4}  # table 2.1
# github.com/llm-jp/scripts: v3-152m, 980m, 1.8b and 3.8b, v4 1.3b and 7.7b.
_LLM_JP_RATE = "llm-jp-3 and v4, of 150 M to 7.7 B, were trained with 0.0003"
_WARMUP, _WARMUP_SHARE = 2000, 0.1
_MAX_MICRO_BATCH = 16
CPU_ACTIVATIONS = 2e9  # bytes for the activations of a rank on a CPU, in fp32


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    size: float  # parameters
    tokens: float | None = None  # None: by the size
    architecture: Name = "gpt2"
    optimizer: Literal["adamw", "muon"] = "adamw"
    decay: Literal["cosine", "wsd"] = "cosine"


@dataclass(frozen=True)
class Machine:
    """The world size of a training, and the memory of a GPU."""

    ranks: int
    memory: float | None = None  # of a rank's GPU, bytes; None: a CPU
    bf16: bool = True  # the GPU has it
    nodes: int = 1


class ChoiceReason(NamedTuple):
    """A choice, as text, and the reason for it."""

    subject: str
    value: str
    why: str


@dataclass(frozen=True)
class Plan:
    """The shape of a model, and the settings of its training."""

    request: Request
    shape: Shape
    tokens: float
    steps: int
    global_batch: int
    micro_batch: int
    learning_rate: float
    warmup_steps: int
    activation_checkpointing: bool = False
    deepspeed: str = "zero2"  # the kit's file of this name
    reasons: tuple[ChoiceReason, ...] = ()


def plan(request: Request, machine: Machine, max_entries: int = VOCABULARIES[0]) -> Plan:
    """Plan a model and its training; the text supports a vocabulary of `max_entries`."""
    shape, origin = shape_of(request.size, max_entries, request.architecture)
    trained = request.tokens or TOKENS_PER_PARAMETER * float(shape.parameters)
    compute = shape.compute(trained)
    ideal = batch_of(compute)
    blocks = 2 ** max(0, round(math.log2(ideal / LENGTH)))
    fit = _fit(request, shape, machine, _power_of_two(blocks / machine.ranks))
    share = fit.micro_batch * machine.ranks
    batch = math.ceil(blocks / share) * share
    rate = float(f"{rate_of(compute):.2g}")
    steps = math.ceil(trained / (batch * LENGTH))
    warmup = min(_WARMUP, int(_WARMUP_SHARE * steps))
    vocabulary = f"{_rows(shape)} {shape.embedding / shape.parameters:.0%} of the parameters"
    if max_entries < VOCABULARIES[0]:
        vocabulary += "; the largest that the text supports"
    by_compute = f"DeepSeek LLM's rule (arXiv 2401.02954) for {compute:.1e} FLOP"
    reasons = (
        ChoiceReason("model", f"{short(shape.parameters)} parameters: {_dimensions(shape)}",
               f"{short(request.size)} requested; {origin}"),
        ChoiceReason("vocabulary", f"{shape.vocab_size:,}", vocabulary),
        ChoiceReason("tokens", short(trained), "requested" if request.tokens else
               f"{TOKENS_PER_PARAMETER} per parameter (Hoffmann et al. 2022)"),
        ChoiceReason("global batch", f"{batch} blocks of {LENGTH:,} = {batch * LENGTH:,} tokens",
               f"{by_compute}: {short(ideal)} tokens, as a power of two shared by {_ranks(machine)}"),
        *_optimizer(request),
        ChoiceReason("learning rate", f"{rate:g}", _why_rate(compute, request)),
        ChoiceReason("warm-up", f"{warmup:,} steps", "DeepSeek LLM's 2,000, at most a tenth of all steps"),
        _decay(request, rate),
        ChoiceReason("steps", f"{steps:,}", "tokens / global batch"),
        ChoiceReason("micro-batch", f"{fit.micro_batch}", fit.why),
    )  # fmt: skip
    return Plan(
        request, shape, trained, steps, batch, fit.micro_batch, rate, warmup, fit.checkpointing,
        fit.deepspeed, reasons,
    )  # fmt: skip


def batch_of(compute: float) -> float:
    """Tokens per step, for a training of this many FLOP."""
    return 0.2920 * float(compute**0.3271)


def rate_of(compute: float) -> float:
    """The peak learning rate, for a training of this many FLOP."""
    return 0.3118 * float(max(compute, _FITTED_FROM) ** -0.1250)


def short(number: float) -> str:
    """A number of parameters or tokens in short form: `9.6 M`, `1.56 B`."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.3g} {name}"
    return f"{number / 1e3:.3g} k"


def _dimensions(shape: Shape) -> str:
    model = shape.model
    text = f"{model.n_layer} layers, {model.n_embd:,} wide, {model.n_head} heads"
    if model.architecture == "llama":
        text += f", {model.n_kv_head} of keys and values, an MLP {model.n_inner:,} wide"
    return text


def _rows(shape: Shape) -> str:
    if shape.model.architecture == "gpt2":
        return "the embedding has"
    if shape.model.tie_embeddings:
        return "the embedding, tied to the output, has"
    return "embedding and output have"


def _optimizer(request: Request) -> tuple[ChoiceReason, ...]:
    if request.optimizer != "muon":
        return ()
    why = "for the matrices of layers; begin with AdamW's learning rate (arXiv 2502.16982)"
    return (ChoiceReason("optimizer", "Muon", why),)


def _decay(request: Request, rate: float) -> ChoiceReason:
    if request.decay == "wsd":
        why = "arXiv 2404.06395, 2405.18392; `ekiden train fork --decay` finishes an earlier checkpoint"
        value = f"wsd, {DECAY_SHAPE} to 0 over the last {DECAY_SHARE:.0%} of the steps"
        return ChoiceReason("decay", value, why)
    why = "a tenth of the peak (Brown et al. 2020, Hoffmann et al. 2022)"
    return ChoiceReason("decay", f"cosine to {rate / 10:g}", why)


def _why_rate(compute: float, request: Request) -> str:
    why = "the same rule"
    if compute < _FITTED_FROM:
        why += f" for {_FITTED_FROM:.0e} FLOP, its lower bound"
    if request.architecture == "llama":
        return f"{why}; {_LLM_JP_RATE}"
    nearest = min(_GPT3_RATES, key=lambda parameters: abs(math.log(request.size / parameters)))
    return f"{why}; GPT-3 {short(nearest)} was trained with {_GPT3_RATES[nearest]:g}"


@dataclass(frozen=True)
class _Fit:
    micro_batch: int
    why: str
    checkpointing: bool = False
    deepspeed: str = "zero2"


def _fit(request: Request, shape: Shape, machine: Machine, most: int) -> _Fit:
    """The micro-batch of a rank, at most `most`, and the measures needed to fit it in memory."""
    setup = _setup(request, shape, machine)
    if machine.memory is None:
        block = setup.layers * memory.layer_bytes(replace(setup, item=4, gpu=False))
        micro = min(most, _power_of_two(CPU_ACTIVATIONS / block))
        return _Fit(micro, f"{bytes_of(micro * block)} of activations on a CPU (computed)")
    tries = _lighter(setup, machine)
    setup = next((one for one in tries if memory.total(one) <= machine.memory), tries[-1])
    micro = _largest(setup, machine.memory, most)
    used = memory.total(replace(setup, micro_batch=micro))
    measures = ", with ZeRO-1, which reduces gradients once a step" if setup.stage == 1 else ""
    measures += ", with the optimizer on the CPU" if setup.offload else ""
    measures += ", with activation checkpointing" if setup.checkpointing else ""
    relation = "of the" if used <= machine.memory else "exceed the"
    why = f"{bytes_of(used)} {relation} {bytes_of(machine.memory)} of a GPU (computed){measures}"
    deepspeed = f"zero{setup.stage}{'-offload' if setup.offload else ''}"
    return _Fit(micro, why, setup.checkpointing, deepspeed)


def _setup(request: Request, shape: Shape, machine: Machine) -> Setup:
    """The setup of a rank with the DeepSpeed file zero2 and a micro-batch of one block."""
    padding = None if machine.memory is None else PADDING
    rows = architectures.padded_rows(shape.vocab_size, padding)
    setup = of_model(shape.model, rows, muon=request.optimizer == "muon")
    return replace(
        setup,
        ranks=machine.ranks,
        bf16=machine.bf16,
        bucket=min(setup.bucket, setup.parameters),
        chunk=setup.length,
    )


def _lighter(setup: Setup, machine: Machine) -> list[Setup]:
    """The setup, and the ones to try in turn if a single block of it does not fit.

    Between nodes ZeRO-1 comes first, in whose DeepSpeed file gradients cross in 16 bits. Muon is never
    offloaded: it would orthogonalise on the host.
    """
    first = [replace(setup, stage=1, crossing_item=setup.item)] if machine.nodes > 1 else []
    if setup.matrices:
        return [*first, setup, replace(setup, checkpointing=True)]
    offloaded = replace(setup, offload=True)
    return [*first, setup, offloaded, replace(offloaded, checkpointing=True)]


def _largest(setup: Setup, limit: float, most: int) -> int:
    """The largest power of two that fits in `limit` bytes, from 1 to `most`, which is one itself."""
    micro = most
    while micro > 1 and memory.total(replace(setup, micro_batch=micro)) > limit:
        micro //= 2
    return micro


def _power_of_two(number: float) -> int:
    """The largest power of two up to the number, at least 1 and at most the largest micro-batch."""
    return int(min(_MAX_MICRO_BATCH, 2 ** int(math.log2(max(1.0, number)))))


def _ranks(machine: Machine) -> str:
    return "1 rank" if machine.ranks == 1 else f"{machine.ranks} ranks"
