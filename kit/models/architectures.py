"""The architectures by their names in recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.models.gpt2 import Gpt2
from kit.models.llama import Llama

if TYPE_CHECKING:
    from kit.config.recipe import Model
    from kit.models.architecture import Architecture

_ALL = {kind.name: kind for kind in (Gpt2, Llama)}

# Of transformers; that of Qwen3 needs little more than Llama's.
MODULES = ("transformers.models.gpt2.modeling_gpt2", "transformers.models.llama.modeling_llama")


def of(model: Model) -> Architecture:
    """The architecture of a recipe's model."""
    return _ALL[model.architecture](model)


def padded_rows(vocab_size: int, multiple: int | None) -> int:
    """The rows of the embedding, rounded up to a multiple (NVIDIA recommends 64 for its matrix units)."""
    return vocab_size if multiple is None else -(-vocab_size // multiple) * multiple
