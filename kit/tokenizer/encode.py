"""Shards into token files, every document closed by `</s>`: the tokenize stage."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import index, shards, tokens
from kit.store import manifest
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units
from kit.tokenizer import huggingface
from kit.tokenizer.word_cache import WordCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit for each shard. Raises StageError while shards or tokenizer are missing."""
    table = functools.cache(functools.partial(_table, recipe))  # one for all units of a task
    return [
        Unit(
            unit.shard.name,
            unit.folder,
            unit.causes,
            functools.partial(_make, recipe, unit.shard, table),
        )
        for unit in tokens.expected(recipe)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    recipe = read_resolved(run.recipe, Recipe)
    make_units("tokenize", units(run, recipe), task, tasks)
    index.write(recipe)  # the last task does


def encode(table: WordCache, documents: Iterable[str], end: bytes) -> Iterator[bytes]:
    """The packed tokens of each document of segmented sentences, closed by `end`."""
    return (table.document(text) + end for text in documents)


def _table(recipe: Recipe) -> WordCache:
    folder = Workspace(Path(recipe.workspace)).tokenizer
    spaces = manifest.read(folder, "jobs.tokenizer")["spaces"]
    dtype = tokens.dtype_for(tokens.tokenizer_info(recipe).size)
    return WordCache(huggingface.load(folder), spaces, dtype)


def _make(
    recipe: Recipe, shard: shards.Shard, table: Callable[[], WordCache], folder: Path
) -> Mapping[str, Any]:
    vocabulary = tokens.tokenizer_info(recipe)
    dtype = tokens.dtype_for(vocabulary.size)
    end = np.array(vocabulary.end, dtype).tobytes()
    counts = {}
    for part in shards.PARTS:
        documents = shards.texts(shards.part_file(shard.folder, part))
        encoded = encode(table(), documents, end)
        counts[part] = tokens.write(tokens.token_file(folder, part), encoded, dtype)
    return {
        "tokens": counts,
        "counts": manifest.read(shard.folder, "jobs.preprocess")["counts"],
    }
