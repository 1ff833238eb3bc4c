"""The model of a checkpoint, as it is released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.data import tokens
from kit.models import architectures
from kit.release import source as sources

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.release.source import ReleaseSource


def load_model(recipe: Recipe, source: ReleaseSource) -> Any:
    """Load a checkpoint as a model of transformers on the CPU, in the dtype of the release.

    The weights are the fp32 masters or their rounding: see kit/training/weights.py.
    Raises CheckpointError if its files are damaged.
    """
    import torch
    from transformers.utils import logging

    from kit.training import language_model, weights

    logging.disable_progress_bar()
    sources.require_files(source)
    tokenizer = tokens.tokenizer_info(recipe)
    dtype = getattr(torch, recipe.release.dtype)
    model = language_model.to_release(recipe.model, tokenizer, dtype)
    trained = weights.read(source.checkpoint.state, dtype, source.checkpoint.ensure_intact_and_own)
    missing, unknown = model.load_state_dict(
        language_model.release_weights(trained, recipe.model, tokenizer.size), strict=False
    )
    assert not unknown, unknown
    output = {"lm_head.weight"} if architectures.of(recipe.model).is_tied else set()
    assert set(missing) <= output, (
        missing
    )  # of two tied weights the masters are one, and ZeRO-3 keeps one
    model.tie_weights()
    return model.eval()
