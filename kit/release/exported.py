"""An exported folder, wherever it lies: its recipe, its model, its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import tokenizer_file
from kit.errors import StageError

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

CONFIG, RECIPE = "config.json", "recipe.json"


def is_export(path: Path) -> bool:
    """Whether a folder holds a model as transformers loads it; a run directory does not."""
    return (path / CONFIG).is_file() and (path / tokenizer_file.FILE).is_file()


def recipe_of(folder: Path) -> Recipe:
    """The recipe that the model was trained with. Raises StageError if the folder has none."""
    if not (folder / RECIPE).is_file():
        raise StageError(
            f"{folder}: has no {RECIPE}, which names the segmenter: not an export, or copied "
            "without that file"
        )
    return read_resolved(folder / RECIPE, Recipe)


def load(folder: Path) -> tuple[Any, Tokenizer]:
    """The model, in fp32 on the CPU, and the tokenizer. Raises StageError without weights."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not any(folder.glob("model*.safetensors")):
        raise StageError(
            f"{folder}: has no weights (model.safetensors); copy them, or export again"
        )
    # In fp32: it runs on the CPU, and few have native bf16.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, tokenizer_file.load(folder)
