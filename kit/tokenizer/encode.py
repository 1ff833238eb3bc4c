"""The tokenize stage: shards into token files, with `</s>` after every document."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import index, shards, tokenizer_file, tokens
from kit.store import manifest
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units
from kit.tokenizer.word_cache import WordCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit per shard. Raises StageError if shards or tokenizer are missing."""
    cache = functools.cache(functools.partial(_word_cache, recipe))  # one for all units of a task
    return [
        Unit(
            unit.shard.name,
            unit.folder,
            unit.causes,
            functools.partial(_make, recipe, unit.shard, cache),
        )
        for unit in tokens.expected(recipe)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    recipe = read_resolved(run.recipe, Recipe)
    make_units("tokenize", units(run, recipe), task, tasks)
    index.write(recipe)  # has an effect in the last task only


def encode(cache: WordCache, documents: Iterable[str], end: bytes) -> Iterator[bytes]:
    """Encode each document of segmented sentences as packed tokens, closed by `end`."""
    return (cache.document(text) + end for text in documents)


def _word_cache(recipe: Recipe) -> WordCache:
    folder = Workspace(Path(recipe.workspace)).tokenizer
    spaces = manifest.read(folder, "jobs.tokenizer")["spaces"]
    dtype = tokens.dtype_for(tokens.tokenizer_info(recipe).size)
    return WordCache(tokenizer_file.load(folder), spaces, dtype)


def _make(
    recipe: Recipe, shard: shards.Shard, cache: Callable[[], WordCache], folder: Path
) -> Mapping[str, Any]:
    vocabulary = tokens.tokenizer_info(recipe)
    dtype = tokens.dtype_for(vocabulary.size)
    end = np.array(vocabulary.end, dtype).tobytes()
    counts = {}
    for part in shards.PARTS:
        documents = shards.texts(shards.part_file(shard.folder, part))
        encoded = encode(cache(), documents, end)
        counts[part] = tokens.write(tokens.token_file(folder, part), encoded, dtype)
    return {
        "tokens": counts,
        "counts": manifest.read(shard.folder, "jobs.preprocess")["counts"],
    }
