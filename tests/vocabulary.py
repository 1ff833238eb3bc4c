"""A tokenizer for tests: quickly trained, and put where a workspace keeps the chosen one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, models, trainers

from kit.data import tokens
from kit.store import manifest
from kit.store.paths import Workspace
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kit.config.recipe import Recipe


def trained(
    sentences: Iterable[str], spaces: str = "lossless", size: int = 2000, alphabet: int = 800
) -> Tokenizer:
    """A BPE tokenizer of segmented sentences, by the library's own trainer."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = huggingface.pre_tokenizer(spaces)
    first = list(huggingface.first_entries(spaces))
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=first, limit_alphabet=alphabet, show_progress=False
    )
    bare.train_from_iterator((huggingface.surface(s, spaces) for s in sentences), trainer)
    model = json.loads(bare.to_str())["model"]
    entries = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return huggingface.from_merges(entries, map(tuple, model["merges"]), spaces)


def put(recipe: Recipe, tokenizer: Tokenizer, spaces: str = "lossless") -> None:
    """Make it the tokenizer of the recipe's workspace, as jobs.tokenizer would leave it."""
    folder = Workspace(Path(recipe.workspace)).tokenizer
    manifest.clear(folder)
    huggingface.save(tokenizer, folder)
    facts = {"size": tokenizer.get_vocab_size()}
    facts |= {
        key: tokenizer.token_to_id(token)
        for key, token in (("begin", huggingface.BEGIN), ("end", huggingface.END))
    }
    manifest.commit(folder, tokens.tokenizer_causes(recipe), vocabulary=facts, spaces=spaces)
