"""The shape of a model of a requested size, in the proportions of published models.

    shape, origin = shape_of(1.1e9, architecture="llama")
    shape.model                      # the section of a recipe: 16 layers, 2,048 wide
    origin                           # "the shape of llm-jp v4 1.3B"

A size that a published model has takes its shape. Any other takes the published width per layer,
interpolated over the logarithm of the parameters, or that of the nearest model beyond their range.

- GPT-2: Radford et al. 2019, table 2 (12 x 768, 24 x 1024, 36 x 1280, 48 x 1600), and GPT-3 2.7B (Brown et
  al. 2020, arXiv 2005.14165, table 2.1: 32 x 2560). Heads are 64 wide, as in GPT-2.
- Llama: the shape of llm-jp v4 1.3B (16 x 2048), else the width per layer of llm-jp-3 (12 x 512, 20 x
  1536, 24 x 2048, 28 x 3072), both from github.com/llm-jp/scripts, pretrain/scripts. As in v4 1.3B, two
  heads of queries share one of keys and values, and the MLP is 3.5 times as wide as the model. Heads are
  128 wide in models of 2,048 and wider, else 64.
- Vocabulary: the largest of `VOCABULARIES` that the text supports, and whose embedding, together with an
  output of its own, has at most a third of the parameters (31% in the smallest GPT-2). A Llama has such an
  output, as in llm-jp, but is tied rather than given a smaller vocabulary.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from kit.config.recipe import Model
from kit.models import architectures

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.models.architecture import Architecture

Name = Literal["gpt2", "llama"]

MIN_SIZE, MAX_SIZE = 10e6, 3e9  # parameters that can be requested
TOLERANCE = 0.05  # maximum deviation of the parameters from the requested size, as a share of it
VOCABULARIES = (50_000, 32_000, 16_000, 8_000, 4_000, 2_000, 1_000)
LENGTH = 1024
_HEAD, _WIDE_HEAD, _WIDE_FROM = 64, 128, 2048  # the last is the width of a model with wide heads
_MAX_WIDTH = 4096
_MAX_EMBEDDING = 1 / 3  # of the parameters


@dataclass(frozen=True)
class Shape:
    """A model and its vocabulary, without padding."""

    model: Model
    vocab_size: int

    @functools.cached_property
    def architecture(self) -> Architecture:
        """With its sizes."""
        return architectures.of(self.model)

    @functools.cached_property
    def parameters(self) -> int:
        """The number of parameters."""
        return self.architecture.parameters(self.vocab_size)

    @property
    def embedding(self) -> int:
        """The parameters in the rows of the vocabulary, those of an output of its own included."""
        return self.parameters - self.architecture.parameters(0)

    @property
    def width_per_layer(self) -> float:
        """Its proportion."""
        return self.model.n_embd / self.model.n_layer

    def compute(self, tokens: float) -> float:
        """FLOP to train on this many tokens, counted as in DeepSeek LLM: without the embedding."""
        model = self.model
        attention = 12.0 * model.n_layer * model.n_embd * model.n_positions
        return tokens * (6.0 * self.architecture.matrix_parameters() + attention)


def shape_of(
    size: float, max_entries: int = VOCABULARIES[0], architecture: Name = "gpt2"
) -> tuple[Shape, str]:
    """The shape of about `size` parameters, within `TOLERANCE`, and its origin in words."""
    assert MIN_SIZE <= size <= MAX_SIZE
    family = _FAMILIES[architecture]
    for entries, tied in itertools.product(VOCABULARIES, family.ties):
        found = _shape(size, entries, tied, family) if entries <= max_entries else None
        if found is not None and found[0].embedding <= _MAX_EMBEDDING * found[0].parameters:
            return found
    raise AssertionError("the smallest vocabulary fits the smallest model")


class _Published(NamedTuple):
    layers: int
    width: int
    name: str


class _Family(NamedTuple):
    model: Callable[[int, int, bool], Model]  # of layers, width, and whether the output is tied
    ties: tuple[bool, ...]
    widths: tuple[int, ...]
    whole: tuple[_Published, ...]  # taken as they are
    between: tuple[_Published, ...]  # by size; only the width per layer is taken
    names: str  # of the latter


def _gpt2(layers: int, width: int, _: bool) -> Model:
    return Model(n_layer=layers, n_embd=width, n_head=width // _HEAD, n_positions=LENGTH)


def _llama(layers: int, width: int, tied: bool) -> Model:
    heads = width // (_WIDE_HEAD if width >= _WIDE_FROM else _HEAD)
    return Model(
        architecture="llama",
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        n_kv_head=heads // 2,
        n_inner=7 * width // 2,
        tie_embeddings=tied,
        n_positions=LENGTH,
    )


_OF_OPENAI = (
    _Published(12, 768, "GPT-2"), _Published(24, 1024, "GPT-2 medium"),
    _Published(36, 1280, "GPT-2 large"), _Published(48, 1600, "GPT-2 XL"),
    _Published(32, 2560, "GPT-3 2.7B"),
)  # fmt: skip
_OF_LLM_JP_3 = (
    _Published(12, 512, "llm-jp-3 150M"), _Published(20, 1536, "llm-jp-3 980M"),
    _Published(24, 2048, "llm-jp-3 1.8B"), _Published(28, 3072, "llm-jp-3 3.7B"),
)  # fmt: skip
_FAMILIES = {
    "gpt2": _Family(
        _gpt2, (True,), (*range(_HEAD, _MAX_WIDTH, _HEAD),), _OF_OPENAI, _OF_OPENAI, "GPT-2 and GPT-3"
    ),
    "llama": _Family(
        _llama,
        (False, True),
        # Heads and their groups of two divide evenly.
        (*range(128, 1024, 128), *range(1024, 2048, 256), *range(2048, _MAX_WIDTH, 512)),
        (_Published(16, 2048, "llm-jp v4 1.3B"),),
        _OF_LLM_JP_3,
        "sizes of llm-jp-3",
    ),
}  # fmt: skip


def _shape(size: float, entries: int, tied: bool, family: _Family) -> tuple[Shape, str] | None:
    """The shape with this vocabulary, and its origin in words; None if that leaves no room for layers."""

    def sized(layers: int, width: int) -> Shape:
        return Shape(family.model(layers, width, tied), entries)

    for layers, width, name in family.whole:
        if _deviation(whole := sized(layers, width), size) <= TOLERANCE:
            return whole, f"the shape of {name}"
    points = [(sized(layers, width), name) for layers, width, name in family.between]
    ratio, origin = _ratio(size, points, family.names)
    near = [shape for shape in _shapes(size, sized, family) if _deviation(shape, size) <= TOLERANCE]
    if not near:
        return None
    best = min(near, key=lambda shape: abs(math.log(shape.width_per_layer / ratio)))
    return (
        best,
        f"{best.width_per_layer:.0f} wide per layer, the nearest to the {ratio:.0f} {origin}",
    )


def _shapes(size: float, sized: Callable[[int, int], Shape], family: _Family) -> list[Shape]:
    """For each width, the number of layers that comes nearest to the size."""
    shapes = []
    for width in family.widths:
        one, two = sized(1, width).parameters, sized(2, width).parameters
        layers = 1 + round((size - one) / (two - one))
        if layers >= 1:
            shapes.append(sized(layers, width))
    return shapes


def _deviation(shape: Shape, size: float) -> float:
    return abs(shape.parameters - size) / size


def _ratio(size: float, published: list[tuple[Shape, str]], names: str) -> tuple[float, str]:
    """The width per layer of a size, and its origin in words."""
    points = [(math.log(shape.parameters), shape.width_per_layer) for shape, _ in published]
    x = math.log(size)
    for index, which in ((0, "smallest"), (-1, "largest")):
        (end, ratio), (_, name) = points[index], published[index]
        if (x <= end) if which == "smallest" else (x >= end):
            return ratio, f"of {name}, the {which} published"
    (left, low), (right, high) = next(
        (a, b) for a, b in itertools.pairwise(points) if a[0] <= x <= b[0]
    )
    return low + (high - low) * (x - left) / (right - left), f"interpolated between {names}"
