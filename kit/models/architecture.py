"""The interface of an architecture: everything else in the kit is common to all of them.

    architecture = architectures.of(recipe.model)
    architecture.parts(rows)                           # its parameters, counted part by part
    architecture.configuration(rows, begin=1, end=2)   # of transformers

Its sizes are arithmetic on the section `model` of a recipe: nothing here needs torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from kit.config.recipe import Model


class ParameterPart(NamedTuple):
    """A part of a model: its number of parameters, and how that is computed."""

    name: str
    number: int
    source: str


class Activations(NamedTuple):
    """Numbers kept per token for the backward pass, without scores of attention and masks of dropout."""

    numbers: int  # in the precision of training
    fp32: int  # always in fp32
    fp32_scores: bool = False  # unfused attention keeps its scores in fp32 as well


class Fused(NamedTuple):
    """Matrices of one size that are stored as one, side by side."""

    dim: int  # of the stored tensor, along which they follow each other
    number: int


class Architecture(ABC):
    """A kind of decoder: a stock class of transformers, which other programs load as it is."""

    name: ClassVar[str]  # in recipes; with a dot, the prefix of the names of weights in checkpoints
    vocabulary_weights: ClassVar[tuple[str, str]]  # with a row for each token: input and output
    position_weights: ClassVar[str | None] = None  # with a row for each position
    layer_weights: ClassVar[str]  # the prefix of the names of all weights of layers

    def __init__(self, model: Model) -> None:
        """`model`: the section of a recipe."""
        self.model = model

    @property
    @abstractmethod
    def title(self) -> str:
        """Its name as people write it: GPT-2."""

    @property
    @abstractmethod
    def model_class(self) -> str:
        """The class in transformers, such as GPT2LMHeadModel."""

    @property
    @abstractmethod
    def model_type(self) -> str:
        """Its name in transformers' config.json, and as a tag on the Hub."""

    @property
    @abstractmethod
    def is_tied(self) -> bool:
        """Whether the output has the weights of the embedding."""

    @property
    @abstractmethod
    def key_value_width(self) -> int:
        """Numbers of a token's keys in a layer; its values have as many."""

    @property
    @abstractmethod
    def dropout(self) -> float:
        """The share of activations that it drops in training."""

    @abstractmethod
    def configuration(self, rows: int, *, begin: int, end: int) -> Any:
        """The configuration of transformers, with the ids of `<s>` and `</s>`."""

    @abstractmethod
    def parts(self, rows: int) -> tuple[ParameterPart, ...]:
        """The parameters part by part; the embedding has `rows` rows."""

    @abstractmethod
    def layer_activations(self) -> Activations:
        """The activations of a layer."""

    @abstractmethod
    def outer_activations(self) -> Activations:
        """The activations around the layers, but for logits: those of the last norm."""

    @abstractmethod
    def moved_bytes(self) -> int | None:
        """Bytes that a layer's kernels move per token between matrix products, in both passes, in 16 bits.

        Attention is left out. None if they have not been counted.
        """

    @abstractmethod
    def fused(self, name: str) -> Fused | None:
        """How a layer's weight of this name holds several matrices; None if it is one."""

    @abstractmethod
    def matrix_parameters(self) -> int:
        """The parameters in the matrices of layers: neither biases nor norms."""

    def parameters(self, rows: int) -> int:
        """The number of parameters."""
        return sum(part.number for part in self.parts(rows))

    def flops_per_token(self, parameters: int) -> float:
        """Forward and backward FLOP per token: 6 N + 12 layers x width x length (PaLM, appendix B).

        N are the model's `parameters` without an untied embedding, which is only looked up. Positions,
        norms and biases count, although they multiply no matrices: 0.17% of GPT-2 XL. Recomputation does
        not: MFU is about the operations that the model needs.
        """
        model = self.model
        looked_up = (
            0 if self.is_tied else (parameters - self.parameters(0)) // 2
        )  # as large as the output
        attention = 12.0 * model.n_layer * model.n_embd * model.n_positions
        return 6.0 * (parameters - looked_up) + attention
