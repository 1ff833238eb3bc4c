"""The facts of a model card, as types.

None, or an empty collection, is a fact that the run has not recorded: the card leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.release import model_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.recipe import Release
    from kit.release.source import Moment


@dataclass(frozen=True)
class SourceFacts:
    """One raw text of the corpus."""

    name: str
    kind: str
    location: str  # a URL or a published name; of a local path the last part
    url: str | None  # without credentials; None for a path or a published name
    license: str | None
    dataset: str | None  # its repository on the Hub, OWNER/NAME
    sha256: str | None  # of the raw file, from the recipe
    raw_bytes: int  # read by jobs.preprocess: of a compressed file, its compressed bytes
    documents: int  # for training
    characters: int  # of these


@dataclass(frozen=True)
class StepFacts:
    """A step of the corpus, as kit/corpus/report.py counts it."""

    name: str
    documents: int
    characters: int


@dataclass(frozen=True)
class CorpusFacts:
    """The corpus of all sources."""

    sources: Sequence[SourceFacts]
    steps: Sequence[StepFacts]
    preset: str | None  # of filters
    mode: str
    segmenter: str  # mecab or jumanpp
    segmenter_version: str | None
    tools: Mapping[str, str]  # versions, by name
    documents: int  # for training
    held_out: int  # documents
    text_bytes: int  # for training, UTF-8
    tokens: int  # for training


@dataclass(frozen=True)
class TokenizerFacts:
    """The tokenizer, and its measures on the held-out text."""

    algorithm: str  # BPE or Unigram
    size: int
    spaces: str  # lossless or article
    measures: Mapping[str, float]  # see kit/tokenizer/measure.py; empty if its candidate is gone


@dataclass(frozen=True)
class LlamaFacts:
    """The shape of a Llama, as far as a GPT-2 has no choice."""

    key_value_heads: int
    inner_width: int
    rope_theta: float
    is_tied: bool


@dataclass(frozen=True)
class ModelFacts:
    """The released model."""

    title: str  # GPT-2
    model_class: str  # in transformers
    model_type: str  # in transformers
    llama: LlamaFacts | None  # None for a GPT-2
    layers: int
    width: int
    heads: int
    positions: int
    parameters: int
    dtype: str
    weights_bytes: int


@dataclass(frozen=True)
class HardwareFacts:
    """The machine of the last attempt."""

    ranks: int
    nodes: int
    device: str  # model of its GPU or processor
    gpus: bool
    versions: Mapping[str, str]  # of torch, deepspeed and transformers


@dataclass(frozen=True)
class NodeTimeFacts:
    """Time for which a finished run held its ranks, summed over them: on GPUs, GPU time."""

    held_seconds: float
    goodput: float  # kept steps over held time
    lost_steps: int


@dataclass(frozen=True)
class EnergyFacts:
    """The estimate of kit/release/card/energy.py."""

    device_hours: float
    watts: float  # of a device
    measured: bool  # by NVML; else the limit of the board
    pue: float | None
    kwh: float
    grid: float | None  # g of CO2 per kWh
    co2_kg: float | None


@dataclass(frozen=True)
class TrainingFacts:
    """The training up to the checkpoint."""

    step: int
    global_batch: int
    tokens_seen: int
    epochs: float  # passes over the training tokens
    optimizer: str
    settings: Mapping[str, Any]  # of optimizer, schedule and loss, by key of the recipe
    precision: str
    origin: tuple[str, int] | None  # run and step of a fork
    attempts: int
    began: float  # Unix time
    ended: float  # of the last row of the curve
    step_seconds: float  # sum over the steps of the curve
    first_loss: tuple[int, float]  # step and loss
    last_loss: tuple[int, float]
    samples: Sequence[tuple[str, str]]  # prompt and text, of the last validation
    sampled_at: int | None  # its step
    hardware: HardwareFacts | None
    node_time: NodeTimeFacts | None


@dataclass(frozen=True)
class CardFacts:
    """All facts of a card."""

    name: str
    version: str  # of ekiden
    commit: str | None  # of the code of the run
    release: Release
    moment: Moment | None
    model: ModelFacts
    corpus: CorpusFacts
    tokenizer: TokenizerFacts
    training: TrainingFacts
    energy: EnergyFacts | None
    scores: Mapping[str, Any] | None  # as kit/release/evaluate.py writes them
    task_scores: Sequence[Mapping[str, Any]]  # rows of scores.jsonl, of tasks only
    files: Mapping[str, int]  # bytes of the other files of the release, by name

    @property
    def gguf(self) -> dict[str, int]:
        """The files for llama.cpp, with their bytes."""
        return {name: size for name, size in self.files.items() if name.endswith(".gguf")}

    @property
    def new_tokens(self) -> int:
        """The most tokens that the released model writes, unless asked for another number."""
        return model_files.new_tokens(self.release, self.model.positions)

    @property
    def unfinished(self) -> bool:
        """Whether training goes on."""
        return self.moment is not None and not self.moment.finished
