"""The section `training` of a recipe: length, batch, schedule, precision, checkpoints, and health."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from kit.config.section import Section

Precision = Literal["auto", "bf16", "fp16", "fp32"]


class Health(Section):
    """What is a bad step, and what is done about it. A loss that is not finite always is one."""

    on_bad_step: Literal["skip", "rollback", "stop"] = Field(
        default="skip",
        description="what follows a bad step. skip: no update; rollback: back to the last checkpoint on "
        "schedule, and the samples since are passed over; stop: end the run, saved before the step",
    )
    loss_spike: float | None = Field(
        default=None,
        gt=0,
        description="nats above the median of the last losses that make a step bad. null: any loss is good",
    )
    gradient_spike: float | None = Field(
        default=None,
        gt=1,
        description="times the median of the last gradient norms that make a step bad. null: any is good",
    )
    window: int = Field(
        default=100,
        gt=9,
        description="number of last steps whose median is meant. Only with loss_spike or gradient_spike",
    )
    limit: int = Field(
        default=10,
        gt=0,
        description="bad steps in a row, or rollbacks to one step, before the run stops",
    )
    hang_seconds: float = Field(
        default=600,
        gt=0,
        description="seconds from which a step is a hang, if it also takes ten times the median step",
    )
    start_seconds: float = Field(
        default=1800,
        gt=0,
        description="seconds from the start of an attempt to its first step from which it is a hang",
    )


class Training(Section):
    """The long job. A step is one update of the weights from `global_batch` blocks."""

    # None of them changes what was already computed, or the samples of a step to come.
    AMENDABLE: ClassVar = frozenset(
        {
            "steps", "epochs", "micro_batch", "validate_every", "checkpoint_every", "keep",
            "keep_every", "save_tries", "save_pause", "health",
        }
    )  # fmt: skip
    # The optimizer's state has this form; `deepspeed` is bound by its stage of ZeRO alone.
    BOUND: ClassVar = frozenset({"decay_all", "precision", "precision_reason"})
    one_of: ClassVar = (("steps", "epochs"),)

    steps: int | None = Field(
        default=None,
        gt=0,
        description="number of steps of the run. Give it or epochs; an override of one takes the place of "
        "the other",
    )
    epochs: float | None = Field(
        default=None,
        gt=0,
        description="number of times the run reads its training tokens, in place of steps. The article: 10",
    )
    global_batch: int = Field(
        default=512,
        gt=0,
        description="blocks of a step, over all ranks: a multiple of micro_batch times the ranks. 512 are "
        "524,288 tokens, the batch of the smaller GPT-3. The article: 528",
    )
    micro_batch: int = Field(
        default=8,
        gt=0,
        description="blocks of a rank in one forward pass: as many as its memory holds, which jobs.train "
        "rehearse tries. 8 of GPT-2 XL fit an A100 of 40 GB (computed). The article: 3",
    )
    seed: int = Field(
        default=0, description="seed of the initial weights, the order of blocks and dropout"
    )
    labels: Literal["lookahead", "inside"] = Field(
        default="lookahead",
        description="what a block predicts. lookahead: the token after each of its own; inside: its own "
        "tokens only, from the second on, as run_clm does. The article: inside",
    )
    learning_rate: float = Field(
        default=3e-4,
        gt=0,
        description="learning rate at its peak, after the warm-up. The article: 3e-4",
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
        description="how the learning rate falls after the warm-up. wsd: the peak is held, and the last "
        "steps decay, for a run whose end is not known. The article: linear",
    )
    decay_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of all steps that decay, the last ones. Only with decay: wsd; null: 0.1 there",
    )
    decay_shape: Literal["linear", "cosine", "1-sqrt"] | None = Field(
        default=None,
        description="curve of the decay. Only with decay: wsd; null: 1-sqrt there",
    )
    weight_decay: float = Field(
        default=0.1, ge=0, description="weight decay of AdamW. The article: 0.1"
    )
    decay_all: bool = Field(
        default=False, description="decay norms and biases too, not only matrices"
    )
    beta1: float = Field(
        default=0.9, ge=0, lt=1, description="AdamW's decay of the gradient's mean"
    )
    beta2: float = Field(
        default=0.95,
        ge=0,
        lt=1,
        description="AdamW's decay of the squared gradient's mean. The article: 0.95",
    )
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's term in the denominator")
    clip: float = Field(default=1.0, gt=0, description="greatest norm of the gradient in an update")
    precision: Precision = Field(
        default="auto",
        description="number format of forward and backward pass. auto: bf16 on a GPU that has it, fp16 on "
        "one that has not, fp32 on a CPU; decided when the run is submitted. The article: bf16",
    )
    precision_reason: str | None = Field(
        default=None,
        description="why auto is that. Set when the recipe is resolved, never in a file",
    )
    gradient_dtype: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="number format in which gradients are accumulated: fp32, or that of precision. The "
        "article: bf16",
    )
    loss_chunk: int | None = Field(
        default=None,
        gt=0,
        description="tokens whose logits exist at a time: the same loss in less memory. null: all of a "
        "micro-batch",
    )
    compile: bool = Field(
        default=False, description="use torch.compile, which needs a compiler on the node"
    )
    deterministic: bool = Field(
        default=False,
        description="use deterministic kernels on a GPU. Those of a CPU always are",
    )
    validate_every: int = Field(
        default=1000,
        gt=0,
        description="steps from one validation to the next; the last step has one as well",
    )
    validation_blocks: int | None = Field(
        default=None, gt=0, description="blocks of a validation. null: all that are held out"
    )
    checkpoint_every: int | None = Field(
        default=None,
        gt=0,
        description="steps from one checkpoint to the next. null: by time, as Young and Daly compute it "
        "from the run's own figures",
    )
    keep: int = Field(default=2, ge=2, description="number of checkpoints kept, the newest")
    keep_every: int | None = Field(
        default=None,
        gt=0,
        description="steps; at each multiple a checkpoint is made, and stays for good. null: none stays",
    )
    save_tries: int = Field(
        default=20, gt=0, description="failed saves in a row before the run stops"
    )
    save_pause: float = Field(
        default=60, gt=0, description="seconds from a failed save to the next try"
    )
    health: Health = Field(
        default=Health(), description="what is a bad step or a hang, and what is done about it"
    )
    deepspeed: str | dict[str, Any] = Field(
        default="zero2",
        description="a DeepSpeed JSON file, relative to the recipe's file, or one of the kit's by name: "
        "zero2, zero2-offload; the resolved recipe holds its text. The article: zero2-offload",
    )

    @model_validator(mode="after")
    def _has_an_end(self) -> Training:
        if self.steps is None and self.epochs is None:
            raise ValueError("give steps or epochs")
        for key, value in (("decay_share", self.decay_share), ("decay_shape", self.decay_shape)):
            if value is not None and self.decay != "wsd":
                raise ValueError(
                    f"{key}={value} is for decay: wsd, and decay is {self.decay}; leave it out, or null"
                )
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"global_batch={self.global_batch} is no multiple of micro_batch={self.micro_batch}"
            )
        return self

    def steps_over(self, blocks: int) -> int:
        """Steps of the whole run over a training set of `blocks` blocks."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * blocks / self.global_batch)
