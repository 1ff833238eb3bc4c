"""Choose a model and its training settings for a size and a number of tokens, by published rules.

    chosen = plan(1.5e9, 30e9, Machine(ranks=8, memory=40e9))
    chosen.shape                     # 48 layers, 1,600 wide
    chosen.reasons                   # each choice with its reason

- Shape: that of GPT-2 (Radford et al. 2019, table 2: 12 x 768, 24 x 1024, 36 x 1280, 48 x 1600) or of GPT-3
  2.7B (Brown et al. 2020, arXiv 2005.14165, table 2.1: 32 x 2560) if one has the requested size. Otherwise
  their width per layer, interpolated over the logarithm of the parameters, or that of the nearest beyond
  their range. Heads are 64 wide, as in GPT-2.
- Vocabulary: the largest of `VOCABULARIES` that the text supports, and whose embedding has at most a third
  of the parameters (31% in the smallest GPT-2).
- Tokens: 20 per parameter, unless a number is given (Hoffmann et al. 2022, arXiv 2203.15556).
- Batch and learning rate: 0.2920 C^0.3271 tokens and 0.3118 C^-0.1250, for the compute C = tokens x (72
  layers width^2 + 12 layers width length) FLOP (DeepSeek LLM, arXiv 2401.02954, section 3). They were
  fitted from 1e17 FLOP upward: below it, the learning rate is that for 1e17.
- Warm-up: 2,000 steps (the same paper), at most a tenth of all steps. Cosine decay to a tenth of the peak
  (Brown et al., appendix B; Hoffmann et al.).
- Micro-batch: the largest power of two that fits in memory by kit/plan/memory.py, at most 16.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from kit.config.recipe import Model
from kit.models.gpt2 import Gpt2
from kit.plan import memory
from kit.plan.memory import Setup

MIN_SIZE, MAX_SIZE = 10e6, 3e9  # parameters that can be requested
TOLERANCE = 0.05  # maximum deviation of the parameters from the requested size, as a share of it
TOKENS_PER_PARAMETER = 20
VOCABULARIES = (50_000, 32_000, 16_000, 8_000, 4_000, 2_000, 1_000)
HEAD = 64
LENGTH = 1024

_TABLE = ((12, 768, "GPT-2"), (24, 1024, "GPT-2 medium"), (36, 1280, "GPT-2 large"),
          (48, 1600, "GPT-2 XL"), (32, 2560, "GPT-3 2.7B"))  # fmt: skip
_MAX_EMBEDDING = 1 / 3  # of the parameters
_FITTED_FROM = 1e17  # FLOP
_GPT3_RATES = {125e6: 6e-4, 350e6: 3e-4, 760e6: 2.5e-4, 1.3e9: 2e-4, 2.7e9: 1.6e-4}  # table 2.1
_WARMUP, _WARMUP_SHARE = 2000, 0.1
_MAX_MICRO_BATCH = 16
CPU_ACTIVATIONS = 2e9  # bytes for the activations of a rank on a CPU, in fp32


@dataclass(frozen=True)
class Machine:
    """The world size of a training, and the memory of a GPU."""

    ranks: int
    memory: float | None = None  # of a rank's GPU, bytes; None: a CPU


@dataclass(frozen=True)
class Shape:
    """A GPT-2 with tied embeddings."""

    n_layer: int
    n_embd: int
    vocab_size: int
    n_positions: int = LENGTH

    @property
    def n_head(self) -> int:
        """Attention heads per layer."""
        return self.n_embd // HEAD

    @property
    def parameters(self) -> int:
        """The number of parameters: embeddings, layers with biases and norms, the last norm."""
        return self.architecture.parameters(self.vocab_size)

    @property
    def architecture(self) -> Gpt2:
        """With its sizes."""
        return Gpt2(
            Model(
                n_layer=self.n_layer,
                n_embd=self.n_embd,
                n_head=self.n_head,
                n_positions=self.n_positions,
            )
        )

    def compute(self, tokens: float) -> float:
        """FLOP to train on this many tokens, counted as in DeepSeek LLM: without the embedding."""
        width, layers = self.n_embd, self.n_layer
        return tokens * (72.0 * layers * width**2 + 12.0 * layers * width * self.n_positions)


class ChoiceReason(NamedTuple):
    """A choice, as text, and the reason for it."""

    subject: str
    value: str
    why: str


@dataclass(frozen=True)
class Plan:
    """The shape of a model, and the settings of its training."""

    shape: Shape
    tokens: float
    steps: int
    global_batch: int
    micro_batch: int
    learning_rate: float
    warmup_steps: int
    activation_checkpointing: bool = False
    offload: bool = False
    reasons: tuple[ChoiceReason, ...] = ()


def plan(
    size: float, tokens: float | None, machine: Machine, max_entries: int = VOCABULARIES[0]
) -> Plan:
    """Plan a model of about `size` parameters, trained on `tokens`; the text supports `max_entries`."""
    shape, origin = shape_of(size, max_entries)
    trained = tokens or TOKENS_PER_PARAMETER * float(shape.parameters)
    compute = shape.compute(trained)
    ideal = batch_of(compute)
    blocks = 2 ** max(0, round(math.log2(ideal / LENGTH)))
    fit = _fit(shape, machine)
    micro = min(fit.micro_batch, 2 ** int(math.log2(max(1, blocks / machine.ranks))))
    share = micro * machine.ranks
    batch = math.ceil(blocks / share) * share
    rate = float(f"{rate_of(compute):.2g}")
    steps = math.ceil(trained / (batch * LENGTH))
    warmup = min(_WARMUP, int(_WARMUP_SHARE * steps))
    share_of_embedding = shape.vocab_size * shape.n_embd / shape.parameters
    vocabulary = f"the embedding has {share_of_embedding:.0%} of the parameters"
    if max_entries < VOCABULARIES[0]:
        vocabulary += "; the largest that the text supports"
    by_compute = f"DeepSeek LLM's rule (arXiv 2401.02954) for {compute:.1e} FLOP"
    reasons = (
        ChoiceReason("model", f"{short(shape.parameters)} parameters: {shape.n_layer} layers, "
               f"{shape.n_embd:,} wide, {shape.n_head} heads", f"{short(size)} requested; {origin}"),
        ChoiceReason("vocabulary", f"{shape.vocab_size:,}", vocabulary),
        ChoiceReason("tokens", short(trained), "requested" if tokens else
               f"{TOKENS_PER_PARAMETER} per parameter (Hoffmann et al. 2022)"),
        ChoiceReason("global batch", f"{batch} blocks of {LENGTH:,} = {batch * LENGTH:,} tokens",
               f"{by_compute}: {short(ideal)} tokens, as a power of two shared by {_ranks(machine)}"),
        ChoiceReason("learning rate", f"{rate:g}", _why_rate(compute, size)),
        ChoiceReason("warm-up", f"{warmup:,} steps", "DeepSeek LLM's 2,000, at most a tenth of all steps"),
        ChoiceReason("decay", f"cosine to {rate / 10:g}",
               "a tenth of the peak (Brown et al. 2020, Hoffmann et al. 2022)"),
        ChoiceReason("steps", f"{steps:,}", "tokens / global batch"),
        ChoiceReason("micro-batch", f"{micro}", fit.why),
    )  # fmt: skip
    return Plan(
        shape, trained, steps, batch, micro, rate, warmup, fit.checkpointing, fit.offload, reasons
    )


def shape_of(size: float, max_entries: int = VOCABULARIES[0]) -> tuple[Shape, str]:
    """The shape of about `size` parameters, within `TOLERANCE`, and its origin in words."""
    assert MIN_SIZE <= size <= MAX_SIZE
    for entries in VOCABULARIES:
        last = entries == VOCABULARIES[-1]
        if entries > max_entries and not last:
            continue
        shape, origin = _shape(size, entries)
        if last or entries * shape.n_embd <= _MAX_EMBEDDING * shape.parameters:
            return shape, origin
    raise AssertionError("the last vocabulary is always taken")


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


def _why_rate(compute: float, size: float) -> str:
    why = "the same rule"
    if compute < _FITTED_FROM:
        why += f" for {_FITTED_FROM:.0e} FLOP, its lower bound"
    nearest = min(_GPT3_RATES, key=lambda parameters: abs(math.log(size / parameters)))
    return f"{why}; GPT-3 {short(nearest)} was trained with {_GPT3_RATES[nearest]:g}"


@dataclass(frozen=True)
class _Fit:
    micro_batch: int
    why: str
    checkpointing: bool = False
    offload: bool = False


def _shape(size: float, entries: int) -> tuple[Shape, str]:
    published = [(Shape(layers, width, entries), name) for layers, width, name in _TABLE]
    nearest, name = min(published, key=lambda pair: abs(pair[0].parameters - size))
    if _deviation(nearest, size) <= TOLERANCE:
        return nearest, f"the shape of {name}"
    ratio = _width_per_layer(size, [shape for shape, _ in published])
    near = [shape for shape in _shapes(size, entries) if _deviation(shape, size) <= TOLERANCE]
    best = min(near, key=lambda s: abs(math.log(s.n_embd / s.n_layer / ratio)))
    return best, f"width per layer {ratio:.0f}, interpolated between GPT-2 and GPT-3"


def _shapes(size: float, entries: int) -> list[Shape]:
    """For each width, the number of layers that comes nearest to the size."""
    shapes = []
    for width in range(HEAD, 64 * HEAD, HEAD):
        left = size - (entries + LENGTH + 2) * width
        layers = round(left / (12 * width**2 + 13 * width))
        if layers >= 1:
            shapes.append(Shape(layers, width, entries))
    return shapes


def _deviation(shape: Shape, size: float) -> float:
    return abs(shape.parameters - size) / size


def _width_per_layer(size: float, published: list[Shape]) -> float:
    ratios = [(math.log(s.parameters), s.n_embd / s.n_layer) for s in published]
    x = min(max(math.log(size), ratios[0][0]), ratios[-1][0])
    (left, low), (right, high) = next(
        (a, b) for a, b in itertools.pairwise(ratios) if a[0] <= x <= b[0]
    )
    return low + (high - low) * (x - left) / (right - left)


def _fit(shape: Shape, machine: Machine) -> _Fit:
    """The micro-batch of a rank, and the measures needed to fit it in memory."""
    setup = Setup(
        parameters=shape.parameters,
        layers=shape.n_layer,
        width=shape.n_embd,
        heads=shape.n_head,
        length=shape.n_positions,
        rows=shape.vocab_size,
        layer=shape.architecture.layer_activations(),
        outer=shape.architecture.outer_activations(),
        ranks=machine.ranks,
        chunk=shape.n_positions,
    )
    if machine.memory is None:
        block = shape.n_layer * memory.layer_bytes(replace(setup, item=4, gpu=False))
        micro = _power_of_two(CPU_ACTIVATIONS / block)
        return _Fit(micro, f"{micro * block / 1e9:.2g} GB of activations on a CPU (computed)")
    tries = _lighter(setup)
    setup = next((one for one in tries if memory.total(one) <= machine.memory), tries[-1])
    micro = _largest(setup, machine.memory)
    used = memory.total(replace(setup, micro_batch=micro))
    measures = ", with the optimizer on the CPU" if setup.offload else ""
    measures += ", with activation checkpointing" if setup.checkpointing else ""
    relation = "of the" if used <= machine.memory else "exceed the"
    why = f"{used / 1e9:.0f} GB {relation} {machine.memory / 1e9:.0f} GB of a GPU (computed){measures}"
    return _Fit(micro, why, setup.checkpointing, setup.offload)


def _lighter(setup: Setup) -> list[Setup]:
    """The setup, and the ones to try in turn if a single block of it does not fit."""
    offloaded = replace(setup, offload=True)
    return [setup, offloaded, replace(offloaded, checkpointing=True)]


def _largest(setup: Setup, limit: float) -> int:
    """The largest power of two that fits in `limit` bytes, from 1 to the largest micro-batch."""
    micro = _MAX_MICRO_BATCH
    while micro > 1 and memory.total(replace(setup, micro_batch=micro)) > limit:
        micro //= 2
    return micro


def _power_of_two(number: float) -> int:
    """The largest power of two up to the number, at least 1 and at most the largest micro-batch."""
    return int(min(_MAX_MICRO_BATCH, 2 ** int(math.log2(max(1.0, number)))))


def _ranks(machine: Machine) -> str:
    return "1 rank" if machine.ranks == 1 else f"{machine.ranks} ranks"
