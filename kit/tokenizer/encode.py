"""Shards into token files, every document closed by `</s>`: the tokenize stage."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import manifest, shards, stage, tokens
from kit.config import Recipe
from kit.sections import read_resolved
from kit.tokenizer.bpe import END
from kit.workspace import Run, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tokenizers import Tokenizer

_BATCH = 256  # documents encoded together


def units(recipe: Recipe) -> list[stage.Unit]:
    """One unit for each shard. Raises StageError while shards or tokenizer are missing."""
    return [
        stage.Unit(
            unit.shard.name, unit.folder, unit.causes, functools.partial(_make, recipe, unit.shard)
        )
        for unit in tokens.expected(recipe)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    stage.run("tokenize", units(read_resolved(run.recipe, Recipe)), task, tasks)


def load(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, for which text that looks like a special token is text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # not kept in the file
    return tokenizer


def encode(tokenizer: Tokenizer, documents: Iterable[Sequence[str]]) -> Iterator[list[int]]:
    """The tokens of each document of segmented sentences, closed by `</s>`."""
    end = tokenizer.token_to_id(END)
    assert end is not None
    rest = iter(documents)
    while batch := list(itertools.islice(rest, _BATCH)):
        encodings = iter(
            tokenizer.encode_batch_fast(
                [sentence for document in batch for sentence in document], add_special_tokens=False
            )
        )
        for document in batch:
            ids = [token for _ in document for token in next(encodings).ids]
            yield [*ids, end]


def _make(recipe: Recipe, shard: shards.Shard, folder: Path) -> Mapping[str, Any]:
    tokenizer = load(Workspace(Path(recipe.workspace)).tokenizer)
    dtype = tokens.dtype_for(recipe.tokenizer.vocab_size)
    counts = {}
    for part in shards.PARTS:
        documents = shards.read(shards.part_file(shard.folder, part))
        file = tokens.token_file(folder, part)
        counts[part] = tokens.write(file, encode(tokenizer, documents), dtype)
    return {
        "tokens": counts,
        "counts": manifest.read(shard.folder, "jobs.preprocess")["counts"],
    }
