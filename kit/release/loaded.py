"""The model of a checkpoint, as it is released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.data import tokens
from kit.release import source as sources

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.release.source import ReleaseSource


def load_model(recipe: Recipe, source: ReleaseSource) -> Any:
    """Load a checkpoint as a transformers.GPT2LMHeadModel on the CPU, in the dtype of the release.

    The weights are the fp32 masters or their rounding: see kit/training/weights.py.
    Raises CheckpointError if its files are damaged.
    """
    import torch
    from transformers.utils import logging

    from kit.models import gpt2
    from kit.training import weights

    logging.disable_progress_bar()
    sources.require_files(source)
    tokenizer = tokens.tokenizer_info(recipe)
    model = gpt2.to_load(gpt2.configuration(recipe.model, tokenizer))
    dtype = getattr(torch, recipe.release.dtype)
    trained = weights.read(source.checkpoint.state, dtype, source.checkpoint.ensure_intact_and_own)
    missing, unknown = model.load_state_dict(
        gpt2.release_weights(trained, tokenizer.size), strict=False
    )
    assert not unknown, unknown
    assert set(missing) <= {"lm_head.weight"}, missing  # tied; ZeRO-3 keeps one of the two
    model.tie_weights()
    return model.to(dtype).eval()
