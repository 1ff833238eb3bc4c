"""From a size and a number of tokens to a model and its training, by published rules.

    made = plan(1.5e9, 30e9, Machine(ranks=8, memory=40e9))
    made.shape                       # 48 layers, 1,600 wide
    made.reasons                     # what was chosen and why, a line each

- Shape: that of GPT-2 (Radford et al. 2019, table 2: 12 x 768, 24 x 1024, 36 x 1280, 48 x 1600) or of GPT-3
  2.7B (Brown et al. 2020, arXiv 2005.14165, table 2.1: 32 x 2560) where one has the size asked for; between
  them their width per layer, interpolated over the logarithm of the parameters, below and above it that of
  the nearest. Heads are 64 wide, as GPT-2's.
- Vocabulary: the largest of `VOCABULARIES` whose embedding has at most a third of the parameters (GPT-2's
  smallest has 31%), and that the text can give.
- Tokens: 20 a parameter where none are asked for (Hoffmann et al. 2022, arXiv 2203.15556).
- Batch and learning rate: 0.2920 C^0.3271 tokens and 0.3118 C^-0.1250 of the compute C = tokens x (72
  layers width^2 + 12 layers width length) FLOP (DeepSeek LLM, arXiv 2401.02954, section 3). They were
  fitted from 1e17 FLOP on: below, the rate is that of 1e17.
- Warm-up: 2,000 steps (the same paper), at most a tenth of all. Cosine decay to a tenth of the rate (Brown
  et al., appendix B; Hoffmann et al.).
- Micro-batch: the largest power of two whose activations fit beside the states of ZeRO-2 (computed), 16 at
  most.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

LEAST, MOST = 10e6, 3e9  # parameters that may be asked for
TOLERANCE = 0.05  # how far from the size asked for the parameters may be, as a share of it
TOKENS_PER_PARAMETER = 20
VOCABULARIES = (50_000, 32_000, 16_000, 8_000, 4_000, 2_000, 1_000)
HEAD = 64
LENGTH = 1024

_TABLE = ((12, 768, "GPT-2"), (24, 1024, "GPT-2 medium"), (36, 1280, "GPT-2 large"),
          (48, 1600, "GPT-2 XL"), (32, 2560, "GPT-3 2.7B"))  # fmt: skip
_EMBEDDING = 1 / 3  # of the parameters, at most
_FITTED = 1e17  # FLOP from which on batch and rate were fitted
_GPT3_RATES = {
    125e6: 6e-4,
    350e6: 3e-4,
    760e6: 2.5e-4,
    1.3e9: 2e-4,
    2.7e9: 1.6e-4,
}  # table 2.1: to compare
_WARMUP, _WARMUP_SHARE = 2000, 0.1
_MICRO_BATCH = 16
# Bytes of a parameter under ZeRO-2, on each rank and shared out among them: bf16 weights; fp32 weights, two
# moments, gradients in fp32 and bf16. Of 1.56 B on 8 ranks that is 6.2 GiB. With CPU offload: the weights.
_OWN, _SHARED = 2.0, 18.0
_ACTIVATIONS, _CHECKPOINTED = (
    34.0,
    2.0,
)  # bytes a token, width and layer: SDPA and gelu_pytorch_tanh in bf16
_BUFFERS = 3e9  # buckets, a chunk of logits, CUDA's context
_ON_CPU = 2e9  # for activations of a rank on a CPU, in fp32


@dataclass(frozen=True)
class Machine:
    """What a training runs on."""

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
        """Heads of a layer."""
        return self.n_embd // HEAD

    @property
    def parameters(self) -> int:
        """All of them: embeddings, layers with biases and norms, the last norm."""
        width = self.n_embd
        embeddings = (self.vocab_size + self.n_positions) * width
        return embeddings + self.n_layer * (12 * width**2 + 13 * width) + 2 * width

    def compute(self, tokens: float) -> float:
        """FLOP of a training over so many tokens, as DeepSeek LLM counts it: without the embedding."""
        width, layers = self.n_embd, self.n_layer
        return tokens * (72.0 * layers * width**2 + 12.0 * layers * width * self.n_positions)


@dataclass(frozen=True)
class Plan:
    """A model and its training."""

    shape: Shape
    tokens: float
    steps: int
    global_batch: int
    micro_batch: int
    learning_rate: float
    warmup_steps: int
    activation_checkpointing: bool = False
    offload: bool = False
    reasons: tuple[tuple[str, str, str], ...] = field(default=())  # what, how much, why


def plan(
    size: float, tokens: float | None, machine: Machine, most_entries: int = VOCABULARIES[0]
) -> Plan:
    """The model of about `size` parameters, trained on `tokens`; the text gives `most_entries` at most."""
    shape, like = shape_of(size, most_entries)
    seen = tokens or TOKENS_PER_PARAMETER * float(shape.parameters)
    compute = shape.compute(seen)
    wanted = batch_of(compute)
    blocks = 2 ** max(0, round(math.log2(wanted / LENGTH)))
    fit = _fit(shape, machine)
    micro = min(fit.micro_batch, 2 ** int(math.log2(max(1, blocks / machine.ranks))))
    share = micro * machine.ranks
    batch = math.ceil(blocks / share) * share
    rate = float(f"{rate_of(compute):.2g}")
    steps = math.ceil(seen / (batch * LENGTH))
    warmup = min(_WARMUP, int(_WARMUP_SHARE * steps))
    vocabulary = f"an embedding of {shape.vocab_size * shape.n_embd / shape.parameters:.0%} of them"
    if most_entries < VOCABULARIES[0]:
        vocabulary += ", and as much as the text can give"
    by_compute = f"DeepSeek LLM's rule (arXiv 2401.02954) for {compute:.1e} FLOP"
    reasons = (
        ("model", f"{short(shape.parameters)} parameters: {shape.n_layer} layers of {shape.n_embd}, "
         f"{shape.n_head} heads", f"asked for {short(size)}; {like}"),
        ("vocabulary", f"{shape.vocab_size:,}", vocabulary),
        ("tokens", short(seen),
         "asked for" if tokens else f"{TOKENS_PER_PARAMETER} a parameter (Hoffmann et al. 2022)"),
        ("global batch", f"{batch} blocks of {LENGTH:,} = {batch * LENGTH:,} tokens",
         f"{by_compute}: {short(wanted)} tokens, as a power of two shared by {_ranks(machine)}"),
        ("learning rate", f"{rate:g}", _why_rate(compute, size)),
        ("warm-up", f"{warmup:,} steps", "DeepSeek LLM's 2,000, at most a tenth of all"),
        ("decay", f"cosine to {rate / 10:g}", "a tenth (Brown et al. 2020, Hoffmann et al. 2022)"),
        ("steps", f"{steps:,}", "tokens / global batch"),
        ("micro-batch", f"{micro}", fit.why),
    )  # fmt: skip
    return Plan(
        shape, seen, steps, batch, micro, rate, warmup, fit.checkpointing, fit.offload, reasons
    )


def shape_of(size: float, most_entries: int = VOCABULARIES[0]) -> tuple[Shape, str]:
    """The shape of about `size` parameters, within `TOLERANCE`, and what it is like."""
    assert LEAST <= size <= MOST
    for entries in VOCABULARIES:
        if entries > most_entries and entries != VOCABULARIES[-1]:
            continue
        shape, like = _shape(size, entries)
        if entries * shape.n_embd <= _EMBEDDING * shape.parameters or entries == VOCABULARIES[-1]:
            return shape, like
    raise AssertionError("the last vocabulary is always taken")


def batch_of(compute: float) -> float:
    """Tokens of a step, for a training of so many FLOP."""
    return 0.2920 * float(compute**0.3271)


def rate_of(compute: float) -> float:
    """The learning rate at its peak, for a training of so many FLOP."""
    return 0.3118 * float(max(compute, _FITTED) ** -0.1250)


def short(number: float) -> str:
    """A number of parameters or tokens: `9.6 M`, `1.56 B`."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.3g} {name}"
    return f"{number / 1e3:.3g} k"


def _why_rate(compute: float, size: float) -> str:
    why = "the same rule"
    if compute < _FITTED:
        why += f" at {_FITTED:.0e} FLOP, its least"
    nearest = min(_GPT3_RATES, key=lambda parameters: abs(math.log(size / parameters)))
    return f"{why}; GPT-3 {short(nearest)} was trained at {_GPT3_RATES[nearest]:g}"


@dataclass(frozen=True)
class _Fit:
    micro_batch: int
    why: str
    checkpointing: bool = False
    offload: bool = False


def _shape(size: float, entries: int) -> tuple[Shape, str]:
    known = [(Shape(layers, width, entries), name) for layers, width, name in _TABLE]
    nearest, name = min(known, key=lambda one: abs(one[0].parameters - size))
    if _off(nearest, size) <= TOLERANCE:
        return nearest, f"the shape of {name}"
    wanted = _width_per_layer(size, [shape for shape, _ in known])
    near = [shape for shape in _shapes(size, entries) if _off(shape, size) <= TOLERANCE]
    best = min(near, key=lambda s: abs(math.log(s.n_embd / s.n_layer / wanted)))
    return best, f"width per layer between GPT-2's and GPT-3's, {wanted:.0f}"


def _shapes(size: float, entries: int) -> list[Shape]:
    """For each width the depth that comes nearest to the size."""
    found = []
    for width in range(HEAD, 64 * HEAD, HEAD):
        left = size - (entries + LENGTH + 2) * width
        layers = round(left / (12 * width**2 + 13 * width))
        if layers >= 1:
            found.append(Shape(layers, width, entries))
    return found


def _off(shape: Shape, size: float) -> float:
    return abs(shape.parameters - size) / size


def _width_per_layer(size: float, known: list[Shape]) -> float:
    ratios = [(math.log(s.parameters), s.n_embd / s.n_layer) for s in known]
    at = min(max(math.log(size), ratios[0][0]), ratios[-1][0])
    (left, low), (right, high) = next(
        (a, b) for a, b in itertools.pairwise(ratios) if a[0] <= at <= b[0]
    )
    return low + (high - low) * (at - left) / (right - left)


def _fit(shape: Shape, machine: Machine) -> _Fit:
    """The micro-batch of a rank, and what it takes to fit."""
    block = _ACTIVATIONS * shape.n_positions * shape.n_embd * shape.n_layer
    if machine.memory is None:
        micro = _power(_ON_CPU / (2 * block))
        return _Fit(micro, f"on a CPU, {2 * micro * block / 1e9:.2g} GB of activations (computed)")
    memory = f"{machine.memory / 1e9:.0f} GB"
    states = shape.parameters * (_OWN + _SHARED / machine.ranks)
    offload = states + _BUFFERS + block > machine.memory
    if offload:
        states = shape.parameters * _OWN
    room = machine.memory - states - _BUFFERS
    checkpointing = room < block
    if checkpointing:
        block *= _CHECKPOINTED / _ACTIVATIONS
    micro = _power(room / block)
    with_what = ", with the optimizer on the CPU" if offload else ""
    with_what += ", with activation checkpointing" if checkpointing else ""
    used = states + _BUFFERS + micro * block
    fits = "of" if used <= machine.memory else "and so more than the"
    why = f"{used / 1e9:.0f} GB {fits} {memory} of a GPU (computed){with_what}"
    return _Fit(micro, why, checkpointing, offload)


def _power(number: float) -> int:
    """The largest power of two that is not greater, between 1 and the greatest micro-batch."""
    return int(min(_MICRO_BATCH, 2 ** int(math.log2(max(1.0, number)))))


def _ranks(machine: Machine) -> str:
    return "1 rank" if machine.ranks == 1 else f"{machine.ranks} ranks"
