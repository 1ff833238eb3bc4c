"""Recipes: typed, validated, frozen.

A recipe says what is made (corpus, tokenizer, model, training), a cluster file where. They are
written in YAML, which kit/config/load.py reads; what is submitted is the resolved form, JSON in the run
directory.
"""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kit.config.section import RECORDED, Section
from kit.config.tokenizer import Tokenizer  # noqa: TC001  pydantic reads it at run time

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Precision = Literal["auto", "bf16", "fp16", "fp32"]
_NAMED = {  # published texts by name: kit/corpus/raw/sources.py knows where they are
    "wikipedia": r"[a-z][a-z_]*wiki-\d{8}",
    "plaintext": r"cc100-[A-Za-z]{2,3}([_-][A-Za-z]+)?",
}


class Source(Section):
    """One raw text: a Wikipedia dump, plain text with an empty line between documents, or JSON lines."""

    kind: Literal["wikipedia", "plaintext", "jsonl"]
    location: str = Field(
        description="a path, a folder or a pattern of files, relative as `workspace`; an http(s) URL; or a "
        "name: jawiki-YYYYMMDD, cc100-ja"
    )
    mirrors: list[str] = Field(
        default=[],
        description="URLs of the same file, tried in turn; of a location that is fetched",
    )
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    sha1: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    index: str | None = Field(
        default=None,
        description="wikipedia: the multistream index, a path relative as `workspace` or a URL; not "
        "needed",
    )
    title: Literal["line", "drop"] = Field(
        default="line", description="wikipedia: the title is an article's first line, or left out"
    )
    text_key: str = Field(default="text", description="jsonl: the key that holds the text")


class Normalise(Section):
    """What neologdn would destroy in running text and mode `default` keeps; `article` keeps none."""

    keep_ranges: bool = Field(default=True, description="the 〜 of 1995〜2001年")
    keep_url_tildes: bool = Field(default=True, description="the ~ of URLs")
    keep_accent_spaces: bool = Field(default=True, description="the spaces of café au lait")


class Length(Section):
    """Documents by their characters."""

    min: int = Field(default=0, ge=0)
    max: int | None = Field(default=None, gt=0)


class MinimumShare(Section):
    """Documents in which something has at least this share."""

    min_share: float = Field(gt=0, le=1)


class MaximumShare(Section):
    """Documents in which something has at most this share."""

    max_share: float = Field(ge=0, lt=1)


class Filters(Section):
    """Which documents are left out; a filter that is null is not used. They count what they remove."""

    length: Length | None = None
    japanese: MinimumShare | None = Field(
        default=None, description="kana and kanji, of the characters that are no white space"
    )
    symbols: MaximumShare | None = Field(
        default=None, description="neither letters nor digits, of the same"
    )
    repeated_lines: MaximumShare | None = Field(
        default=None, description="lines that stood in the document before, of its lines"
    )
    duplicates: bool = Field(
        default=False, description="leave out a document that stood in the corpus before"
    )


class Corpus(Section):
    """From raw dumps to shards of segmented documents."""

    sources: dict[str, Source]
    downloads: str | None = Field(
        default=None,
        description="a folder for fetched files, relative as `workspace`; null: in the workspace. Only "
        "where one is fetched",
    )
    unit_mb: float = Field(gt=0, description="size of the raw input of one shard, MB")
    tasks: int = Field(gt=0, description="array tasks of jobs.preprocess")
    held_out: float = Field(gt=0, lt=0.5, description="share of documents kept from training")
    mode: Literal["default", "article"] = "default"
    normalise: Normalise = Normalise()
    segmenter: Literal["auto", "mecab", "jumanpp"] = "auto"
    segmenter_version: str | None = Field(
        default=None, description="set when the recipe is resolved"
    )
    filters: Filters = Filters()
    on_bad_input: Literal["stop", "skip"] = Field(
        default="stop", description="skip: pass over a bad line, page or document, and count it"
    )

    @field_validator("sources")
    @classmethod
    def _named(cls, sources: dict[str, Source]) -> dict[str, Source]:
        for name in sources:
            if not re.match(NAME, name):
                raise ValueError(
                    f"a source's name is letters, digits, '.', '_' and '-', not {name!r}"
                )
        if not sources:
            raise ValueError("at least one source")
        return sources


class Tokens(Section):
    """From shards to token files."""

    tasks: int = Field(gt=0, description="array tasks of jobs.tokenize")


class Model(Section):
    """GPT-2, in the terms of transformers.GPT2Config."""

    BOUND: ClassVar = frozenset(
        {"n_layer", "n_embd", "n_head", "n_positions", "pad_vocab_to"}  # the shape of the weights
    )

    n_layer: int = Field(gt=0)
    n_embd: int = Field(gt=0)
    n_head: int = Field(gt=0)
    n_positions: int = Field(default=1024, gt=1, description="tokens of a block")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    activation: Literal["gelu_new", "gelu_pytorch_tanh", "gelu"] = "gelu_pytorch_tanh"
    attention: Literal["sdpa", "eager"] = "sdpa"
    activation_checkpointing: bool = False
    pad_vocab_to: int | None = Field(
        default=None, gt=0, description="embedding rows: a multiple of it; cut off at the release"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Model:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is no multiple of n_head={self.n_head}")
        return self


class Health(Section):
    """What is a bad step, and what is done about it. A loss that is not finite always is one."""

    on_bad_step: Literal["skip", "rollback", "stop"] = Field(
        default="skip",
        description="skip: no update; rollback: to the last checkpoint on schedule, and pass over the "
        "samples since; stop: end the run, saved before the step",
    )
    loss_spike: float | None = Field(
        default=None, gt=0, description="nats above the median of the last losses"
    )
    gradient_spike: float | None = Field(
        default=None, gt=1, description="times the median of the last gradient norms"
    )
    window: int = Field(
        default=100, gt=9, description="steps whose median is meant; with one of the spikes"
    )
    limit: int = Field(
        default=10,
        gt=0,
        description="bad steps in a row, or rollbacks to one step, before it stops",
    )
    hang_seconds: float = Field(
        default=600, gt=0, description="a step longer than this and ten times the median is a hang"
    )
    start_seconds: float = Field(
        default=1800, gt=0, description="from the start of an attempt to its first step, or a hang"
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

    steps: int | None = Field(
        default=None, gt=0, description="or epochs; an override of one takes the place of the other"
    )
    epochs: float | None = Field(default=None, gt=0)
    global_batch: int = Field(gt=0, description="blocks of a step, over all ranks")
    micro_batch: int = Field(gt=0, description="blocks of a rank in one forward pass")
    seed: int = 0
    labels: Literal["lookahead", "inside"] = Field(
        default="lookahead",
        description="inside: a block predicts its own tokens only, as run_clm does",
    )
    learning_rate: float = Field(gt=0)
    minimum_learning_rate: float = Field(
        default=0.0, ge=0, description="at the end of the decay; not with decay: constant"
    )
    warmup_steps: int = Field(default=0, ge=0)
    decay: Literal["cosine", "linear", "constant", "wsd"] = Field(
        default="cosine",
        description="wsd: the peak is held, and the last steps decay: for a run whose end is not known",
    )
    decay_share: float | None = Field(
        default=None, gt=0, le=1, description="wsd: the last share of all steps decays; null: 0.1"
    )
    decay_shape: Literal["linear", "cosine", "1-sqrt"] | None = Field(
        default=None, description="wsd: how it decays; null: 1-sqrt"
    )
    weight_decay: float = Field(default=0.1, ge=0)
    decay_all: bool = Field(default=False, description="decay norms and biases too")
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, gt=0, description="bound on the gradient's norm")
    precision: Precision = Field(
        default="auto",
        description="auto: bf16 on a GPU that has it, fp16 on one that has not, fp32 on a CPU; resolved "
        "when the run is submitted",
    )
    precision_reason: str | None = Field(
        default=None, description="why auto is that; set when the recipe is resolved"
    )
    gradient_dtype: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="in which gradients are accumulated: fp32, or the precision of the training",
    )
    loss_chunk: int | None = Field(
        default=None,
        gt=0,
        description="tokens whose logits exist at a time; null: all of a micro-batch",
    )
    compile: bool = Field(default=False, description="torch.compile; needs a compiler on the node")
    deterministic: bool = Field(
        default=False,
        description="deterministic kernels on a GPU; a CPU's are always, so that one recipe serves both",
    )
    validate_every: int = Field(gt=0, description="steps")
    validation_blocks: int | None = Field(default=None, gt=0, description="null: the held-out part")
    checkpoint_every: int | None = Field(
        default=None, gt=0, description="steps; null: by time, as Young and Daly compute it"
    )
    keep: int = Field(default=2, ge=2, description="checkpoints")
    keep_every: int | None = Field(
        default=None,
        gt=0,
        description="at each multiple of so many steps a checkpoint is made, and stays for good",
    )
    save_tries: int = Field(default=20, gt=0, description="failed saves in a row before it stops")
    save_pause: float = Field(
        default=60, gt=0, description="seconds from a failed save to the next"
    )
    health: Health = Health()
    deepspeed: str | dict[str, Any] = Field(
        description="a DeepSpeed JSON file, relative as `workspace`, or one of the kit's by name: zero2, "
        "zero2-offload; the resolved recipe holds it"
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


class Tracking(Section):
    """Where the ledger is shown."""

    tensorboard: bool = True
    mlflow: str | None = Field(
        default="workspace",
        min_length=1,
        description="a tracking URI; workspace: sqlite in the workspace; null: off",
    )
    experiment: str = Field(
        default="ekiden", description="its name in MLflow; not with mlflow: null"
    )

    @field_validator("mlflow")
    @classmethod
    def _is_a_uri(cls, mlflow: str | None, info: ValidationInfo) -> str | None:
        if mlflow in (None, "workspace", "databricks") or info.context == RECORDED:
            return mlflow
        if mlflow.lower() in ("off", "no", "none", "false", "0"):
            raise ValueError("write null to have no MLflow")
        if not re.match(r"[a-z][a-z0-9+.-]*://|file:", mlflow):
            example = mlflow if re.fullmatch(r"[\w.-]+:\d+(/.*)?", mlflow) else "localhost:5000"
            raise ValueError(
                f"a tracking URI has a scheme: write http://{example}, or sqlite:////PATH/mlflow.db; or "
                "workspace, or null"
            )
        return mlflow


class Release(Section):
    """What becomes of the weights."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    license: str = "other"
    prompts: list[str] = Field(default=["日本の"])
    max_new_tokens: int = Field(default=40, gt=0)
    temperature: float = Field(default=0.8, gt=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    seed: int = 0


class Recipe(Section):
    """All that defines a run but the machines it runs on."""

    AMENDABLE: ClassVar = frozenset({"tracking", "release"})
    BOUND: ClassVar = frozenset(
        {"workspace", "corpus", "tokenizer", "tokens"}
    )  # the tokens trained on

    name: str = Field(pattern=NAME)
    workspace: str = Field(
        min_length=1,
        description="the folder of all that is made; a relative path is relative to the recipe's file, of "
        "an override to the current directory",
    )
    corpus: Corpus
    tokenizer: Tokenizer
    tokens: Tokens
    model: Model
    training: Training
    tracking: Tracking = Tracking()
    release: Release = Release()

    @field_validator("workspace")
    @classmethod
    def _can_hold_code(cls, workspace: str, info: ValidationInfo) -> str:
        # A task finds its run's code by PYTHONPATH, in which a colon separates folders.
        if ":" in workspace and info.context != RECORDED:
            raise ValueError(
                "a path with a colon cannot be in PYTHONPATH; choose a folder without it"
            )
        return workspace


def is_url(location: str) -> bool:
    """Whether a source's location is to be fetched over the network."""
    return location.startswith(("http://", "https://"))


def named_kind(location: str) -> str | None:
    """The kind of the published text that a location names, as jawiki-20220701; None for no name."""
    return next((kind for kind, name in _NAMED.items() if re.fullmatch(name, location)), None)


def is_remote(location: str) -> bool:
    """Whether a source's location is no path: a URL, or the name of a published text."""
    return is_url(location) or named_kind(location) is not None
