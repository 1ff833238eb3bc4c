"""The peak memory of a rank in training, part by part, computed before there is a run.

    parts = memory.parts(setup)                  # weights, gradients, optimizer, buckets, activations ...
    memory.total(setup)                          # bytes
    memory.largest(setup, 40e9, per_rank=64)     # the largest micro-batch that fits

- Weights, gradients and optimizer: the partitions of ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054,
  section 5), with DeepSpeed 0.19.8's number formats: it keeps fp32 weights and both of AdamW's moments, or
  Muon's one, and gradients in `gradient_dtype`, which are whole on every rank below stage 2. What Muon
  computes with has the memory of the activations, which are gone by then.
- Activations of a layer: kit/models. For GPT-2 s b h (34 + 5 a s / h) bytes for 16-bit numbers with dropout
  (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1); without dropout the 34 are 32. PyTorch's fused
  attention keeps no scores, but a logarithm per head and token.
- Logits: those of a chunk and their log-probabilities, in fp32, and gradients in fp32 of the output layer's
  weight and input (kit/training/loss.py). A test counts them.

Bytes are decimal. The constants below are assumed or measured, not derived.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kit.models.architecture import Activations

FRAGMENTATION = (
    0.05  # assumed: memory that the allocator holds but cannot use, as a share of the tensors
)
CONTEXT = 1.5e9  # assumed: CUDA's context and NCCL's buffers on a GPU
ALLOWANCES = ("fragmentation", "context")  # parts that are no tensors
# Measured: a rank on a CPU with a tiny model, of torch 2.13 and DeepSpeed 0.19.8 on x86-64:
# 0.39e9 on older cores, up to 0.46e9 on newer ones.
PROCESS = 0.42e9
_FP32 = 4
MOMENTS = 2  # of AdamW
_LOGITS = 8  # bytes per logit: itself and its log-probability, in fp32
# The same if the backward pass computes it again: log-probability, gradients of loss and of log-softmax.
_RECOMPUTED = 12


@dataclass(frozen=True)
class Setup:
    """Everything that the memory of a rank depends on."""

    parameters: int
    layers: int
    width: int
    heads: int
    length: int  # tokens of a block
    rows: int  # of the embedding
    layer: Activations  # of a layer
    outer: Activations  # around the layers
    matrices: int = 0  # parameters that Muon trains, with one moment
    ranks: int = 1
    micro_batch: int = 1
    item: int = 2  # bytes of a number in forward and backward pass
    gradient_item: int = 4  # bytes of an accumulated gradient
    crossing_item: int = 4  # bytes of a gradient between ranks
    bf16: bool = True  # not fp16: DeepSpeed then has another ZeRO-1
    stage: int = 2  # of ZeRO
    offload: bool = False  # of the optimizer, to host memory
    bucket: int = 200_000_000  # numbers in a bucket of gradients
    live: int = 1_000_000_000  # parameters that a rank has gathered at a time, under ZeRO-3
    overlap: bool = True  # of communication and backward pass: two buckets
    fused_attention: bool = True
    dropout: bool = False
    checkpointing: bool = False
    chunk: int | None = None  # tokens whose logits are computed at a time
    liger: bool = False  # the loss is liger-kernel's, which chooses the chunk
    gpu: bool = True

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch."""
        return self.micro_batch * self.length


class Part(NamedTuple):
    """A part of the memory of a rank, and how it is computed."""

    name: str
    bytes: float
    source: str


def parts(setup: Setup) -> list[Part]:
    """All parts, at the peak: the begin of the backward pass."""
    tensors = [*_states(setup), _buckets(setup), *_activations(setup), _logits(setup)]
    if not setup.gpu:
        return [*tensors, *_of_a_process(setup)]
    held = sum(part.bytes for part in tensors)
    return [
        *tensors,
        Part("fragmentation", FRAGMENTATION * held, f"{FRAGMENTATION:.0%} of the above, assumed"),
        Part("context", CONTEXT, "CUDA and NCCL, assumed"),
    ]


def total(setup: Setup) -> float:
    """The memory of a rank at its peak, in bytes."""
    return sum(part.bytes for part in parts(setup))


def largest(setup: Setup, memory: float, per_rank: int) -> int | None:
    """The largest micro-batch that fits in `memory` bytes and divides a rank's blocks of a step.

    None if not even one block fits.
    """
    fitting = [
        size
        for size in range(1, per_rank + 1)
        if per_rank % size == 0 and total(replace(setup, micro_batch=size)) <= memory
    ]
    return max(fitting, default=None)


def host_bytes(setup: Setup) -> float:
    """Host memory that a rank needs for an offloaded optimizer: fp32 weights, gradients and moments."""
    return setup.parameters * (2 + MOMENTS) * _FP32 / setup.ranks if setup.offload else 0.0


def checkpoint_bytes(parameters: int, item: int, matrices: int = 0) -> int:
    """The size of a checkpoint: the weights, and three fp32 values of the optimizer for each.

    The `matrices` of Muon have two, of as many parameters.
    """
    return parameters * ((1 + MOMENTS) * _FP32 + item) - matrices * _FP32


def captured_bytes(parameters: int, item: int, ranks: int, matrices: int = 0) -> float:
    """The part of a checkpoint that rank 0 copies to host memory and writes, under ZeRO-1 and 2."""
    return parameters * item + own_bytes(parameters, ranks, matrices)


def own_bytes(parameters: int, ranks: int, matrices: int = 0) -> float:
    """The part of the optimizer that each rank writes and reads."""
    return checkpoint_bytes(parameters, 0, matrices) / ranks


def layer_bytes(setup: Setup) -> float:
    """Activations of one layer that its backward pass needs, for a micro-batch."""
    item, layer = setup.item, setup.layer
    mask = 1 if setup.gpu else item  # bytes: on a CPU PyTorch keeps a factor, not a bit
    masks = 2 * setup.width * mask if setup.dropout else 0  # after attention and MLP
    # PyTorch has no fused attention with dropout on a CPU.
    if setup.fused_attention and (setup.gpu or not setup.dropout):
        attention = float(_FP32 * setup.heads)
    else:  # the scores after softmax; with dropout also after it, and its mask
        scores = item + (item + mask if setup.dropout else 0)
        scores += _FP32 if layer.fp32_scores and item < _FP32 else 0
        attention = float(scores * setup.heads * setup.length)
    return setup.tokens * (_per_token(layer, item) + masks + attention)


def _per_token(kept: Activations, item: int) -> int:
    return item * kept.numbers + _FP32 * kept.fp32


def _of_a_process(setup: Setup) -> list[Part]:
    """The rest of a process on a CPU."""
    copy = captured_bytes(setup.parameters, setup.item, setup.ranks, setup.matrices)
    return [
        Part("copy for a save", copy, "rank 0's: the weights and its part of the optimizer"),
        Part("process", PROCESS, "Python, PyTorch and DeepSpeed, as measured"),
    ]


def _states(setup: Setup) -> list[Part]:
    stage, ranks, number = setup.stage, setup.ranks, setup.parameters
    sharded = f" / {ranks} ranks (ZeRO-{stage})"
    weights = number * setup.item / (ranks if stage == 3 else 1)
    gradients = number * setup.gradient_item / (ranks if stage >= 2 else 1)
    copies = MOMENTS + (0 if stage == 0 and setup.item == _FP32 else 1)
    optimizer = (number * copies - setup.matrices) * _FP32 / (ranks if stage else 1)
    of_gradients = f"{setup.gradient_item} bytes per parameter{sharded if stage >= 2 else ''}"
    of_optimizer = f"{copies * _FP32} bytes per parameter{sharded if stage else ''}: "
    of_optimizer += "AdamW" + (", fp32 weights" if copies > MOMENTS else "")
    if setup.matrices:
        of_optimizer += f"; Muon: {_FP32} less for {setup.matrices:,} of them"
    if setup.offload:
        optimizer, of_optimizer = 0.0, "in host memory (offload)"
        # Those of another format are added up on the GPU, the rank's part of them.
        if stage >= 2 and setup.gradient_item == setup.item:
            gradients, of_gradients = 0.0, "in host memory (offload)"
    per_weight = f"{setup.item} bytes per parameter{sharded if stage == 3 else ''}"
    return [
        Part("weights", weights, per_weight),
        Part("gradients", gradients, of_gradients),
        Part("optimizer", optimizer, of_optimizer),
    ]


def _buckets(setup: Setup) -> Part:
    """Gradients on their way to their rank: buckets, and the copies of one that is reduced."""
    if setup.stage == 0:
        return Part("buckets", 0.0, "none without ZeRO")
    if setup.stage == 1 and setup.bf16 and setup.gradient_item == _FP32 and not setup.offload:
        return _whole_copy(setup)
    size = setup.bucket
    if setup.stage == 3:  # a bucket, and what its gradients are joined to
        # Between the passes DeepSpeed keeps what the next one needs, as many as it may.
        gathered = min(setup.parameters, setup.live) * setup.item
        source = (
            f"{size:,} numbers x {2 * setup.crossing_item} bytes: reduce_bucket_size (DeepSpeed)"
        )
        total = 2 * setup.crossing_item * size + gathered
        return Part("buckets", total, f"{source}, and gathered weights (max_live_parameters)")
    # ZeRO-1 fills them with accumulated gradients, ZeRO-2 with those of a micro-batch.
    item = setup.gradient_item if setup.stage == 1 else setup.item
    copies = (2 if setup.overlap else 1) + 1
    each = copies * item + (setup.crossing_item if setup.crossing_item != item else 0)
    source = (
        f"{size:,} numbers x {each} bytes: reduce_bucket_size, {copies - 1} of them, and copies"
    )
    return Part("buckets", each * size, f"{source} (DeepSpeed)")


def _whole_copy(setup: Setup) -> Part:
    """ZeRO-1 in bf16: no buckets; after the backward pass all gradients are reduced at once.

    Their copy in another format has the memory of the activations, which are gone by then.
    """
    if setup.crossing_item == setup.gradient_item:
        return Part("buckets", 0.0, "none: ZeRO-1 reduces gradients where they are (DeepSpeed)")
    free = sum(part.bytes for part in (*_activations(setup), _logits(setup)))
    copy = setup.parameters * setup.crossing_item
    source = f"none: a copy of {copy / 1e9:.3g} GB, once the activations are gone (DeepSpeed)"
    return Part("buckets", max(0.0, copy - free), source)


def _activations(setup: Setup) -> list[Part]:
    """Activations of all layers, of the embedding and of the last norm."""
    layer, inputs = layer_bytes(setup), setup.tokens * setup.width * setup.item
    masks = setup.tokens * setup.width if setup.dropout else 0
    outer = setup.tokens * _per_token(setup.outer, setup.item) + masks
    source = "the last norm, embedding's dropout" if setup.dropout else "the last norm"
    around = Part("around them", outer, source)
    # Not at the same moment as the logits, but their blocks have other sizes, and are seldom used again.
    backward = Part(
        "backward pass", layer, "gradients in one layer: assumed as large as its activations"
    )
    if setup.checkpointing:
        kept = setup.layers * inputs + layer
        source = (
            f"inputs of {setup.layers} layers of {inputs / 1e6:,.1f} MB, and one layer recomputed"
        )
    else:
        kept, source = setup.layers * layer, f"{setup.layers} layers of {layer / 1e6:,.1f} MB"
    return [Part("activations", kept, f"{source}, as PyTorch keeps them"), around, backward]


def _logits(setup: Setup) -> Part:
    """The loss: the logits of a chunk, and the gradients that the output layer's weight and input get."""
    if setup.liger:
        return _of_liger(setup)
    tokens = min(setup.chunk or setup.tokens, setup.tokens)
    logits, weight = tokens * setup.rows, setup.rows * setup.width
    advice = " (loss_chunk lowers it)" if setup.chunk is None else ""
    if setup.gpu and setup.item < _FP32 and not setup.bf16:  # an older GPU
        source = f"{tokens:,} tokens x {setup.rows:,} entries x {_RECOMPUTED} bytes{advice}"
        both = logits * _RECOMPUTED + 2 * weight * setup.item
        return Part("logits", both, f"{source}; weight's gradient, twice")
    inputs = setup.tokens * setup.width
    result = (weight + inputs) * setup.item  # of the backward pass, when there are no logits
    most = max(logits * _LOGITS, result)
    if not setup.gpu and setup.item < _FP32:  # a CPU computes with an fp32 copy of the weight
        most = max(most, weight * _FP32 + max(logits * (_FP32 + setup.item), result))
    source = f"{tokens:,} tokens x {setup.rows:,} entries x {_LOGITS} bytes{advice}"
    both = most + (weight + inputs) * _FP32
    return Part("logits", both, f"{source}; gradients of weight and input")


def _of_liger(setup: Setup) -> Part:
    """As liger-kernel 0.8.5 computes it: ops/fused_linear_cross_entropy.py."""
    parts = -(-setup.rows // setup.width)
    tokens = min(setup.tokens, 1 << (-(-setup.tokens // parts) - 1).bit_length())
    logits, weight = tokens * setup.rows * setup.item, setup.rows * setup.width
    inputs = setup.tokens * setup.width * setup.item
    source = f"{tokens:,} tokens x {setup.rows:,} entries x {setup.item} bytes (liger-kernel)"
    both = max(logits, 2 * weight * setup.item) + weight * _FP32 + inputs
    return Part("logits", both, f"{source}; gradients of weight and input")
