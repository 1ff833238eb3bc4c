"""Recipes: typed, validated, frozen.

A recipe describes the product (corpus, tokenizer, model, training), a cluster file the machines. Both are
written in YAML and read by kit/config/load.py; jobs get the resolved form, JSON in the run directory.
"""

from __future__ import annotations

import difflib
import re
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kit.config import presets, score_tasks
from kit.config.alerts import Alerting
from kit.config.corpus import (
    NAME,
    Corpus,
    Normalise,
    Source,
    is_remote,
    is_url,
    named_kind,
)
from kit.config.filters import Filters, Length
from kit.config.licenses import HUB
from kit.config.section import RECORDED, Section
from kit.config.tokenizer import Tokenizer
from kit.config.training import Health, Precision, Training

__all__ = [  # all sections of a recipe, those of the neighbouring modules included
    "NAME", "Alerting", "Corpus", "Filters", "GgufType", "Health", "Length", "Model", "Normalise",
    "Precision", "Recipe", "Release", "Source", "Tokenizer", "Tokens", "Tracking", "Training",
    "is_remote", "is_url", "named_kind",
]  # fmt: skip

GgufType = Literal["f16", "q8_0", "bf16", "f32"]


class Tokens(Section):
    """From shards to token files."""

    tasks: int = Field(
        default=8,
        gt=0,
        description="array tasks of `tokenize`, which share the shards",
    )


class Model(Section):
    """A decoder of transformers, in the terms of GPT2Config whatever the architecture."""

    BOUND: ClassVar = frozenset(  # the shape of the weights
        {
            "architecture", "n_layer", "n_embd", "n_head", "n_kv_head", "n_inner", "n_positions", "qk_norm",
            "tie_embeddings", "pad_vocab_to",
        }
    )  # fmt: skip

    architecture: Literal["gpt2", "llama"] = Field(
        default="gpt2",
        description="gpt2: learned positions, LayerNorm, GELU, biases, tied embeddings; llama: rotary "
        "positions, RMSNorm, SwiGLU, no biases. Both are stock classes of transformers, which vLLM and "
        "llama.cpp load. The article: gpt2",
    )
    n_layer: int = Field(gt=0, description="number of layers. The article: 48")
    n_embd: int = Field(
        gt=0, description="width of the model, a multiple of n_head. The article: 1600"
    )
    n_head: int = Field(
        gt=0,
        description="attention heads per layer, each n_embd / n_head wide; GPT-2's are 64 wide. The "
        "article: 20, which are 80 wide",
    )
    n_kv_head: int | None = Field(
        default=None,
        gt=0,
        description="heads of keys and values per layer, each for the same number of attention heads "
        "(grouped-query attention). null: as many as n_head. Only with architecture: llama",
    )
    n_inner: int | None = Field(
        default=None,
        gt=0,
        description="width of the MLP. null: 8/3 of n_embd, rounded up to a multiple of 64. Only with "
        "architecture: llama; GPT-2's is 4 x n_embd",
    )
    rope_theta: float = Field(
        default=10_000.0,
        ge=1,
        le=1e12,
        description="base of the rotary positions. Only with architecture: llama",
    )
    qk_norm: bool = Field(
        default=False,
        description="an RMSNorm over the queries and keys of each head, for large learning rates; the "
        "model is then a Qwen3ForCausalLM. Only with architecture: llama",
    )
    tie_embeddings: bool = Field(
        default=False,
        description="whether the output has the weights of the embedding. Only with architecture: llama; "
        "GPT-2's always has",
    )
    n_positions: int = Field(
        default=1024, gt=1, description="tokens per block: the context length. The article: 1024"
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of activations dropped in training, the same for embeddings, attention and "
        "residuals. The article: 0.1, as in GPT-2. Only with architecture: gpt2",
    )
    activation: Literal["gelu_new", "gelu_pytorch_tanh", "gelu"] = Field(
        default="gelu_pytorch_tanh",
        description="activation function. gelu_pytorch_tanh: gelu_new in a single kernel with less memory; "
        "gelu: without approximation. The article: gelu_new. Only with architecture: gpt2",
    )
    attention: Literal["sdpa", "eager"] = Field(
        default="sdpa",
        description="attention implementation. sdpa: PyTorch's fused kernels; eager: unfused, with more "
        "memory. The article: eager",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="keep only the inputs of each layer, and recompute the rest in the backward pass. "
        "Saves memory for about a third more computation",
    )
    pad_vocab_to: int | None = Field(
        default=None,
        gt=0,
        description="pad the embedding to a multiple of this many rows, such as 64, for the matrix units "
        "of a GPU; the release drops the padding. null: no padding",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Model:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}")
        if self.architecture == "llama":
            if self.n_kv_head is not None and self.n_head % self.n_kv_head:
                raise ValueError(
                    f"n_head={self.n_head} is not a multiple of n_kv_head={self.n_kv_head}"
                )
            if self.n_embd // self.n_head % 2:
                raise ValueError(
                    f"n_embd / n_head = {self.n_embd // self.n_head}: rotary positions need an even width"
                )
        return self


class Tracking(Section):
    """The tools that show the ledger."""

    tensorboard: bool = Field(
        default=True, description="write TensorBoard event files into the run directory"
    )
    mlflow: str | None = Field(
        default="workspace",
        min_length=1,
        description="MLflow's tracking URI, with its scheme. workspace: sqlite in the workspace; null: off",
    )
    mlflow_by: Literal["job", "sync"] = Field(
        default="job",
        description="who publishes to MLflow. job: the jobs, a process beside the training; sync: only "
        "`watch sync`, if compute nodes have no network. Not with mlflow: null",
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
            raise ValueError("write null to turn MLflow off")
        if not re.match(r"[a-z][a-z0-9+.-]*://|file:", mlflow):
            example = mlflow if re.fullmatch(r"[\w.-]+:\d+(/.*)?", mlflow) else "localhost:5000"
            raise ValueError(
                f"a tracking URI needs a scheme: write http://{example} or sqlite:////PATH/mlflow.db; or "
                "workspace, or null"
            )
        return mlflow


class Release(Section):
    """The released model, and the samples it generates."""

    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16",
        description="number format of the released weights, which are the optimizer's in fp32, or their "
        "rounding",
    )
    license: str = Field(
        default="other",
        description="licence of the weights, as an identifier of Hugging Face. other: another one, see "
        "license_name",
    )
    license_name: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.-]*$",
        description="short name of a licence that Hugging Face does not list, such as my-license-1.0. Only "
        "with license: other",
    )
    license_link: str | None = Field(
        default=None,
        min_length=1,
        description="URL of its text, or LICENSE for a file that you add to the folder. Only with license: "
        "other",
    )
    authors: list[str] = Field(
        default=[], description="authors of the model, for the citation in the model card"
    )
    citation: str | None = Field(
        default=None,
        min_length=1,
        description="BibTeX entry to cite the model by. null: one made of name and authors, if these are "
        "given",
    )
    base_model: str | None = Field(
        default=None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="repository on Hugging Face, OWNER/NAME, of the model that this run was forked from. "
        "Only for a fork",
    )
    pue: float | None = Field(
        default=None,
        ge=1,
        le=5,
        description="power usage effectiveness of the data centre, for the estimate of energy in the model "
        "card; the average was 1.54 in the survey of the Uptime Institute of 2025. null: the devices alone",
    )
    grid_gco2_per_kwh: float | None = Field(
        default=None,
        ge=0,
        le=2000,
        description="carbon intensity of the electricity, in g of CO2 per kWh, as its supplier publishes "
        "it; for the model card. null: no estimate of CO2",
    )
    bos: Literal["</s>", "<s>"] = Field(
        default="</s>",
        description="token that readers put before a document: `</s>`, which stands before each in "
        "training, or `<s>`, which no training has seen, to match a published tokenizer",
    )
    gguf: list[GgufType] = Field(
        default=[],
        description="number formats of GGUF files beside the safetensors, for llama.cpp: f16, q8_0 (8 "
        "bits), bf16, f32. Needs ekiden[gguf]",
    )
    prompts: list[str] = Field(
        default=["日本の"], description="prompts of the samples that `generate` writes"
    )
    max_new_tokens: int = Field(
        default=40, gt=0, description="maximum number of tokens generated per sample"
    )
    temperature: float = Field(
        default=0.8, gt=0, description="sampling temperature: a lower one gives less varied text"
    )
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="sample from the likeliest tokens that together have this probability",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="random seed of the samples")
    tasks: list[str] = Field(
        default=[],
        description="tasks of lm-evaluation-harness that `evaluate` scores, offline: YAML files whose "
        "data lie beside them, folders of such files, or names of the eight of japanese_leaderboard. "
        "Needs the extra ekiden[scores]",
    )
    tasks_data: str | None = Field(
        default=None,
        min_length=1,
        description="folder with the data of those that tasks gives by name. Only with tasks",
    )
    tasks_text: Literal["segmented", "raw"] = Field(
        default="segmented",
        description="form in which tasks are read. segmented: normalised and segmented like the corpus; "
        "raw: as they are, as other readers of the release do. Only with tasks",
    )

    @field_validator("license")
    @classmethod
    def _is_known_to_the_hub(cls, given: str, info: ValidationInfo) -> str:
        if given not in HUB and info.context != RECORDED:
            near = difflib.get_close_matches(given.lower(), HUB, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"no identifier of Hugging Face; {hint}for one that it does not list write other, and its "
                "name as release.license_name"
            )
        return given

    @field_validator("prompts")
    @classmethod
    def _not_empty(cls, prompts: list[str], info: ValidationInfo) -> list[str]:
        for number, prompt in enumerate(prompts):
            if not prompt.strip() and info.context != RECORDED:
                raise ValueError(f"prompt {number} is empty; write a prompt, or remove it")
        return prompts

    @field_validator("tasks")
    @classmethod
    def _are_known(cls, tasks: list[str], info: ValidationInfo) -> list[str]:
        for name in filter(presets.is_name, tasks):
            if not score_tasks.names(name) and info.context != RECORDED:
                raise ValueError(
                    f"{name} is not one of {', '.join(score_tasks.TASKS)}; a file or folder needs a slash, "
                    f"as ./{name}"
                )
        return tasks

    @field_validator("gguf")
    @classmethod
    def _each_once(cls, kinds: list[GgufType]) -> list[GgufType]:
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise ValueError(f"{kind} is listed twice; list each format once")
        return kinds

    @model_validator(mode="after")
    def _data_of_tasks(self, info: ValidationInfo) -> Release:
        named = next(filter(presets.is_name, self.tasks), None)
        if named is not None and self.tasks_data is None and info.context != RECORDED:
            raise ValueError(f"tasks has {named}; set tasks_data to the folder that holds its data")
        return self


class Recipe(Section):
    """The complete definition of a run, except for the machines it runs on."""

    AMENDABLE: ClassVar = frozenset({"tracking", "alerts", "release"})
    BOUND: ClassVar = frozenset({"workspace", "corpus", "tokenizer", "tokens"})  # the tokens

    name: str = Field(
        pattern=NAME,
        description="name of the run and of its folder: letters, digits, '.', '_' and '-'. Unique within a "
        "workspace",
    )
    workspace: str = Field(
        min_length=1,
        description="folder for all output; a relative path is relative to the recipe's file, in an "
        "override to the current directory",
    )
    corpus: Corpus = Field(description="from raw texts to shards of segmented documents")
    tokenizer: Tokenizer = Field(
        default=Tokenizer(), description="the vocabulary, or candidates for it"
    )
    tokens: Tokens = Field(default=Tokens(), description="from shards to token files")
    model: Model = Field(description="the shape of the model")
    training: Training = Field(description="length, batch, schedule, precision, checkpoints")
    tracking: Tracking = Field(default=Tracking(), description="the tools that show the ledger")
    alerts: Alerting = Field(
        default=Alerting(), description="messages of `watch guard` about the run"
    )
    release: Release = Field(
        default=Release(), description="the released model, and the samples it generates"
    )

    @field_validator("workspace")
    @classmethod
    def _can_hold_code(cls, workspace: str, info: ValidationInfo) -> str:
        # A task finds its run's code by PYTHONPATH, in which a colon separates folders.
        if ":" in workspace and info.context != RECORDED:
            raise ValueError(
                "a path with a colon cannot be in PYTHONPATH; choose a folder without a colon"
            )
        if (
            "\n" in workspace and info.context != RECORDED
        ):  # it would end a line of sbatch's options
            raise ValueError(
                "a path with a line break cannot be in a job's script; rename the folder"
            )
        return workspace

    @model_validator(mode="after")
    def _gguf_possible(self) -> Recipe:
        """What llama.cpp cannot read, before months of training."""
        is_gelu = self.model.architecture == "gpt2" and self.model.activation == "gelu"
        if self.release.gguf and is_gelu:
            raise ValueError(
                "release.gguf: llama.cpp computes GPT-2 with gelu's tanh approximation, unlike "
                "model.activation=gelu; set gguf=[], or another activation"
            )
        for spec in self.tokenizer.specs() if self.release.gguf else ():
            if (spec.algorithm, spec.spaces) == ("unigram", "article"):
                raise ValueError(
                    f"release.gguf: llama.cpp has no tokenizer equal to {spec.name}; set gguf=[], or take "
                    "bpe or spaces: lossless"
                )
        return self
