"""The held-out documents as raw text: what a reader who does not segment gives the model.

raw = read(recipe)
raw.share       # of the sentences that get the ids that training saw
raw.stream      # the documents' tokens, unsegmented
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.data import shards, tokenizer_file, tokens
from kit.store import manifest
from kit.store.paths import Workspace
from kit.tokenizer import raw_text
from kit.tokenizer.word_cache import WordCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.recipe import Recipe

_SENTENCES = 10_000  # encoded together


@dataclass(frozen=True)
class Raw:
    """The raw text of the held-out documents."""

    share: float  # of the sentences, those whose ids are those of segmented text
    stream: tokens.TokenStream  # each document closed by END


def read(recipe: Recipe) -> Raw:
    """Encode the held-out documents without their words. Raises StageError if a shard is not done."""
    folder = Workspace(Path(recipe.workspace)).tokenizer
    tokenizer = tokenizer_file.load(folder)
    dtype = tokens.dtype_for(tokenizer.get_vocab_size())
    cache = WordCache(tokenizer, manifest.read(folder, "jobs.tokenizer")["spaces"], dtype)
    number = equal = 0
    sentences = itertools.chain.from_iterable(_held_out(recipe))
    while batch := [*itertools.islice(sentences, _SENTENCES)]:
        number += len(batch)
        equal += raw_text.equal(tokenizer, cache, batch)
    ids = tuple(raw_text.ids(tokenizer, _held_out(recipe), dtype))
    starts = (0, *itertools.accumulate(map(len, ids)))
    return Raw(equal / number, tokens.TokenStream(ids, starts))


def _held_out(recipe: Recipe) -> Iterator[list[str]]:
    for shard in shards.complete(recipe):
        yield from shards.read(shards.part_file(shard.folder, shards.HELD_OUT))
