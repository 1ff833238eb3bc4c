"""The section `training` of a recipe: length, batch, schedule, precision, checkpoints, and health."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from kit.config.section import Section

Precision = Literal["auto", "bf16", "fp16", "fp32"]


class Health(Section):
    """Detection of bad steps and hangs. A step whose loss is not finite is always bad."""

    on_bad_step: Literal["skip", "rollback", "stop"] = Field(
        default="skip",
        description="reaction to a bad step. skip: make no update; rollback: return to the last scheduled "
        "checkpoint and skip the samples since; stop: save the state before the step, and end the run",
    )
    loss_spike: float | None = Field(
        default=None,
        gt=0,
        description="a step is bad if its loss exceeds the median of the last ones by this many nats. "
        "null: off",
    )
    gradient_spike: float | None = Field(
        default=None,
        gt=1,
        description="a step is bad if its gradient norm exceeds this many times the median of the last "
        "ones. null: off",
    )
    window: int = Field(
        default=100,
        gt=9,
        description="number of past steps in the medians of loss and gradient norm. Only with loss_spike "
        "or gradient_spike",
    )
    limit: int = Field(
        default=10,
        gt=0,
        description="bad steps in a row, or rollbacks to the same step, after which the run stops",
    )
    hang_seconds: float = Field(
        default=600,
        gt=0,
        description="a step that takes longer than this many seconds, and than ten times the median step, "
        "is a hang",
    )
    start_seconds: float = Field(
        default=1800,
        gt=0,
        description="an attempt that takes longer than this many seconds to its first step is a hang",
    )


class Training(Section):
    """The training job. A step is one update of the weights from `global_batch` blocks."""

    # None of them changes completed steps, or the samples of a future one.
    AMENDABLE: ClassVar = frozenset(
        {
            "steps", "epochs", "micro_batch", "validate_every", "sample_tokens", "samples_every",
            "checkpoint_every", "keep", "keep_every", "save_tries", "save_pause", "health",
        }
    )  # fmt: skip
    # They decide the form of the optimizer's state; of `deepspeed` only the ZeRO stage is bound.
    BOUND: ClassVar = frozenset({"optimizer", "decay_all", "precision", "precision_reason"})
    one_of: ClassVar = (("steps", "epochs"),)

    steps: int | None = Field(
        default=None,
        gt=0,
        description="number of steps of the run. Give steps or epochs; an override of one replaces the "
        "other",
    )
    epochs: float | None = Field(
        default=None,
        gt=0,
        description="number of passes over the training tokens, in place of steps. The article: 10",
    )
    global_batch: int = Field(
        default=512,
        gt=0,
        description="blocks per step, over all ranks: a multiple of micro_batch times the world size. 512 "
        "blocks are 524,288 tokens, the batch of the smaller GPT-3 models. The article: 528",
    )
    micro_batch: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        default=8,
        description="blocks per rank in one forward pass: as many as fit in its memory. auto: the largest "
        "that fits, as `train rehearse` has found, else as `plan` computes; decided at submission. 8 "
        "blocks of GPT-2 XL fit an A100 of 40 GB (computed). The article: 3",
    )
    micro_batch_reason: str | None = Field(
        default=None,
        description="reason for the choice of auto. Set when the recipe is resolved, never in a file",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="seed of the initial weights, the order of blocks and dropout",
    )
    labels: Literal["lookahead", "inside"] = Field(
        default="lookahead",
        description="labels of a block. lookahead: the token after each of its tokens; inside: only its "
        "own tokens, from the second on, as in run_clm. The article: inside",
    )
    learning_rate: float = Field(
        default=3e-4,
        gt=0,
        description="peak learning rate, after the warm-up. The article: 3e-4",
    )
    minimum_learning_rate: float = Field(
        default=0.0,
        ge=0,
        description="learning rate at the end of the decay. Not with decay: constant",
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        description="number of steps over which the learning rate rises to its peak",
    )
    decay: Literal["cosine", "linear", "constant", "wsd"] = Field(
        default="cosine",
        description="decay of the learning rate after the warm-up. wsd: hold the peak and decay only the "
        "last steps, for a run of open length. The article: linear",
    )
    decay_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of the steps that decay, at the end. Only with decay: wsd; null: 0.1",
    )
    decay_shape: Literal["linear", "cosine", "1-sqrt"] | None = Field(
        default=None,
        description="curve of the decay. Only with decay: wsd; null: 1-sqrt",
    )
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw",
        description="adamw, or muon: for the matrices of the blocks, whose averaged gradient it "
        "orthogonalises, with adamw for embeddings, norms, biases and head. Begin with AdamW's learning "
        "rate and weight decay. The article: adamw",
    )
    muon_momentum: float = Field(
        default=0.95,
        ge=0,
        lt=1,
        description="Muon's decay of the mean of the gradient. Only with optimizer: muon",
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0,
        description="decoupled weight decay of either optimizer. The article: 0.1",
    )
    decay_all: bool = Field(
        default=False,
        description="apply weight decay to norms and biases too, not only to matrices",
    )
    beta1: float = Field(
        default=0.9, ge=0, lt=1, description="AdamW's decay of the mean of the gradient"
    )
    beta2: float = Field(
        default=0.95,
        ge=0,
        lt=1,
        description="AdamW's decay of the mean of the squared gradient. The article: 0.95",
    )
    epsilon: float = Field(
        default=1e-8, gt=0, description="AdamW's epsilon, a term of the denominator"
    )
    clip: float = Field(
        default=1.0, gt=0, description="maximum gradient norm; larger ones are clipped"
    )
    precision: Precision = Field(
        default="auto",
        description="number format of the forward and backward pass. auto: bf16 on a GPU that supports it, "
        "fp16 on any other, fp32 on a CPU; decided at submission. The article: bf16",
    )
    precision_reason: str | None = Field(
        default=None,
        description="reason for the choice of auto. Set when the recipe is resolved, never in a file",
    )
    gradient_dtype: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="number format of accumulated gradients: fp32, or the same as precision. The article: "
        "bf16",
    )
    loss_kernel: Literal["torch", "liger"] = Field(
        default="torch",
        description="kernels of the loss. liger: those of the package liger-kernel, on a GPU, not in fp16; "
        "not tried on a GPU yet",
    )
    loss_chunk: int | None = Field(
        default=1024,
        gt=0,
        description="tokens whose logits exist at a time; the loss is the same. null: those of the whole "
        "micro-batch. Only with loss_kernel: torch",
    )
    z_loss: float | None = Field(
        default=None,
        gt=0,
        le=0.1,
        description="coefficient of z-loss, the squared logarithm of softmax's denominator, which keeps "
        "logits from drifting. PaLM: 1e-4. The ledger has it beside the loss, as z_loss. null: none",
    )
    compile: bool = Field(
        default=False, description="use torch.compile, which needs a compiler on the node"
    )
    deterministic: bool = Field(
        default=False,
        description="on a GPU, use kernels that add in a fixed order only: an interrupted run can be "
        "bit-equal to an uninterrupted one. On a CPU they always do",
    )
    validate_every: int = Field(
        default=1000,
        gt=0,
        description="steps between two validations; the last step is always validated",
    )
    validation_blocks: int | None = Field(
        default=None, gt=0, description="blocks per validation. null: all held-out blocks"
    )
    sample_tokens: int | None = Field(
        default=16,
        gt=0,
        description="tokens by which the model continues each of release.prompts at a validation, as text "
        "for you to read. null: no samples",
    )
    samples_every: int | None = Field(
        default=None,
        gt=0,
        description="steps between two validations that write samples, a multiple of validate_every; the "
        "last validation always does. null: every validation. Only with sample_tokens",
    )
    checkpoint_every: int | None = Field(
        default=None,
        gt=0,
        description="steps between two checkpoints. null: by time, with the interval of Young and Daly for "
        "the cost of a save and the interruptions measured in this run",
    )
    keep: int = Field(default=2, ge=2, description="number of newest checkpoints to keep")
    keep_every: int | None = Field(
        default=None,
        gt=0,
        description="save a checkpoint at each multiple of this many steps, and keep it for good. null: "
        "off",
    )
    save_tries: int = Field(
        default=20, gt=0, description="number of failed saves in a row after which the run stops"
    )
    save_pause: float = Field(
        default=60, gt=0, description="seconds between a failed save and its retry"
    )
    health: Health = Field(
        default=Health(), description="detection of bad steps and hangs, and the reaction to them"
    )
    deepspeed: str | dict[str, Any] = Field(
        default="zero2",
        description="a DeepSpeed JSON file, relative to the recipe's file, or the name of one of the "
        "kit's: zero1 (for several nodes), zero2, zero2-offload; the resolved recipe holds its text. The "
        "article: zero2-offload",
    )

    @model_validator(mode="after")
    def _has_an_end(self) -> Training:
        if self.steps is None and self.epochs is None:
            raise ValueError("give steps or epochs")
        for key, value in (("decay_share", self.decay_share), ("decay_shape", self.decay_shape)):
            if value is not None and self.decay != "wsd":
                raise ValueError(
                    f"{key}={value} needs decay: wsd, but decay is {self.decay}; leave it out, or set it "
                    "to null"
                )
        if self.samples_every is not None and self.samples_every % self.validate_every:
            raise ValueError(
                f"samples_every={self.samples_every} is not a multiple of "
                f"validate_every={self.validate_every}: samples are written at validations"
            )
        if self.micro_batch != "auto" and self.global_batch % self.micro_batch:
            raise ValueError(
                f"global_batch={self.global_batch} is not a multiple of micro_batch={self.micro_batch}"
            )
        return self

    @property
    def micro_batch_size(self) -> int:
        """The micro-batch of a resolved recipe, which has no `auto`."""
        assert self.micro_batch != "auto"  # resolved when the run is submitted
        return self.micro_batch

    def steps_over(self, blocks: int) -> int:
        """Number of steps of the whole run over a training set of `blocks` blocks."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * blocks / self.global_batch)
