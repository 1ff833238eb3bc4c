"""Recipes: typed, validated, frozen.

A recipe says what is made (corpus, tokenizer, model, training), a cluster file where. They are
written in YAML, which kit/config/load.py reads; what is submitted is the resolved form, JSON in the run
directory.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kit.config.corpus import (
    NAME,
    Corpus,
    Filters,
    Length,
    Normalise,
    Source,
    is_remote,
    is_url,
    named_kind,
)
from kit.config.section import RECORDED, Section
from kit.config.tokenizer import Tokenizer
from kit.config.training import Health, Precision, Training

__all__ = [  # the sections, and those of the modules beside, under one name
    "NAME", "Corpus", "Filters", "Health", "Length", "Model", "Normalise", "Precision", "Recipe", "Release",
    "Source", "Tokenizer", "Tokens", "Tracking", "Training", "is_remote", "is_url", "named_kind",
]  # fmt: skip


class Tokens(Section):
    """From shards to token files."""

    tasks: int = Field(
        default=8,
        gt=0,
        description="array tasks of jobs.tokenize, over which the shards are spread",
    )


class Model(Section):
    """GPT-2, in the terms of transformers.GPT2Config."""

    BOUND: ClassVar = frozenset(
        {"n_layer", "n_embd", "n_head", "n_positions", "pad_vocab_to"}  # the shape of the weights
    )

    n_layer: int = Field(gt=0, description="number of layers. The article: 48")
    n_embd: int = Field(
        gt=0, description="width of the model, a multiple of n_head. The article: 1600"
    )
    n_head: int = Field(
        gt=0,
        description="attention heads of a layer, each n_embd / n_head wide; GPT-2's are 64 wide. The "
        "article: 20, which are 80 wide",
    )
    n_positions: int = Field(
        default=1024, gt=1, description="tokens of a block: the context. The article: 1024"
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of activations dropped in training, of embeddings, attention and residuals "
        "alike. The article: 0.1, which is GPT-2's own",
    )
    activation: Literal["gelu_new", "gelu_pytorch_tanh", "gelu"] = Field(
        default="gelu_pytorch_tanh",
        description="activation function. gelu_pytorch_tanh: gelu_new in one kernel and less memory; gelu: "
        "not approximated. The article: gelu_new",
    )
    attention: Literal["sdpa", "eager"] = Field(
        default="sdpa",
        description="way to compute attention. sdpa: PyTorch's fused kernels; eager: step by step, in more "
        "memory. The article: eager",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="keep only a layer's inputs, and compute the rest again in the backward pass. Less "
        "memory for about a third more work",
    )
    pad_vocab_to: int | None = Field(
        default=None,
        gt=0,
        description="embedding rows are filled up to a multiple of it, such as 64, as a GPU's matrix units "
        "like; cut off at the release. null: not filled up",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Model:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is no multiple of n_head={self.n_head}")
        return self


class Tracking(Section):
    """Where the ledger is shown."""

    tensorboard: bool = Field(
        default=True, description="write TensorBoard event files into the run directory"
    )
    mlflow: str | None = Field(
        default="workspace",
        min_length=1,
        description="MLflow's tracking URI, with its scheme. workspace: sqlite in the workspace; null: off",
    )
    experiment: str = Field(
        default="ekiden", description="name of the experiment in MLflow. Not with mlflow: null"
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

    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="number format of the released weights"
    )
    license: str = Field(
        default="other", description="license of the model card, as an identifier of Hugging Face"
    )
    prompts: list[str] = Field(
        default=["日本の"], description="beginnings of the samples that jobs.generate writes"
    )
    max_new_tokens: int = Field(default=40, gt=0, description="tokens of a sample at most")
    temperature: float = Field(
        default=0.8, gt=0, description="temperature of sampling: lower is less varied"
    )
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="share of the probability that is sampled from, the likeliest tokens first",
    )
    seed: int = Field(default=0, description="seed of sampling")


class Recipe(Section):
    """All that defines a run but the machines it runs on."""

    AMENDABLE: ClassVar = frozenset({"tracking", "release"})
    BOUND: ClassVar = frozenset({"workspace", "corpus", "tokenizer", "tokens"})  # the tokens

    name: str = Field(
        pattern=NAME,
        description="name of the run and of its folder: letters, digits, '.', '_' and '-'. Another run in "
        "one workspace has another",
    )
    workspace: str = Field(
        min_length=1,
        description="the folder of all that is made; a relative path is relative to the recipe's file, of "
        "an override to the current directory",
    )
    corpus: Corpus = Field(description="from raw texts to shards of segmented documents")
    tokenizer: Tokenizer = Field(
        default=Tokenizer(), description="the vocabulary, or candidates for it"
    )
    tokens: Tokens = Field(default=Tokens(), description="from shards to token files")
    model: Model = Field(description="the shape of the model")
    training: Training = Field(description="length, batch, schedule, precision, checkpoints")
    tracking: Tracking = Field(default=Tracking(), description="where the ledger is shown")
    release: Release = Field(
        default=Release(), description="the released weights, and the samples beside them"
    )

    @field_validator("workspace")
    @classmethod
    def _can_hold_code(cls, workspace: str, info: ValidationInfo) -> str:
        # A task finds its run's code by PYTHONPATH, in which a colon separates folders.
        if ":" in workspace and info.context != RECORDED:
            raise ValueError(
                "a path with a colon cannot be in PYTHONPATH; choose a folder without it"
            )
        return workspace
