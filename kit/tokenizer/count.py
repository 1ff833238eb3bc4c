"""The count stage: shards into word counts, one file per group of shards."""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import documents, shards, tokens
from kit.data.shards import BOUNDARY
from kit.errors import StageError
from kit.store import look, manifest
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units
from kit.tokenizer import counts, huggingface

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Distinct words in memory, 0.6 GB while they are cut; more are written to disk and merged.
_CAPACITY = 2_000_000
_BATCH = 10_000  # words to cut together
_FILES = 400  # to merge at once: each takes two of the 1,024 open files of a process
_SCRATCH = "runs"  # a folder that exists only while a unit is being made


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit per group of shards and mode of spaces. Raises StageError if a shard is missing."""
    return look.remember_of(recipe, "word counts", lambda: _units(recipe))


def _units(recipe: Recipe) -> list[Unit]:
    workspace = Workspace(Path(recipe.workspace))
    complete = shards.complete(recipe)
    return [
        Unit(
            f"{spaces}-{number:05d}",
            workspace.word_counts(spaces, number),
            manifest.causes(
                "count",
                tokens.TOKENIZER_VERSION,
                {"spaces": spaces},
                {
                    shard.name: manifest.fingerprint(shard.folder, "jobs.preprocess")
                    for shard in group
                },
            ),
            functools.partial(_make, recipe, complete, group, spaces),
        )
        for spaces in space_modes(recipe)
        for number, group in enumerate(groups(recipe, complete))
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    make_units("count", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def space_modes(recipe: Recipe) -> list[str]:
    """The values of `spaces` among the recipe's candidates."""
    return sorted({vocabulary.spaces for vocabulary in recipe.tokenizer.specs()})


def groups(recipe: Recipe, complete: Sequence[shards.Shard]) -> list[list[shards.Shard]]:
    """Group consecutive shards, up to `tokenizer.count_mb` of text in each, or one larger shard.

    Raises StageError if there are too many groups to merge at once.
    """
    grouped: list[list[shards.Shard]] = []
    size = 0.0
    for shard in complete:
        text = manifest.read(shard.folder, "jobs.preprocess")["counts"][shards.TRAIN].get(
            "bytes", 0
        )
        if not grouped or size + text > recipe.tokenizer.count_mb * 1e6:
            grouped.append([])
            size = 0.0
        grouped[-1].append(shard)
        size += text
    if len(grouped) > _FILES:
        raise StageError(
            f"tokenizer.count_mb={recipe.tokenizer.count_mb}: gives {len(grouped)} word-count files, but "
            f"at most {_FILES} can be merged; raise it"
        )
    return grouped


def count(
    texts: Iterable[str], spaces: str, scratch: Path, capacity: int = _CAPACITY
) -> Iterator[counts.CountBatch]:
    """Count the words of segmented documents; yields the counts in chunks.

    Keeps about `capacity` distinct words in memory; more are written to folders under `scratch`.
    """
    runs: list[Path] = []
    words: Counter[str] = Counter()
    for text in texts:
        words.update(text.replace("\n", " ").split(" "))
        if len(words) > capacity:
            runs.append(scratch / str(len(runs)))
            counts.write(runs[-1], counts.chunks(_cut(words, spaces)))
            words.clear()
    last = counts.chunks(_cut(words, spaces))
    yield from counts.merge([*map(counts.read, runs), last]) if runs else last


def _cut(word_counts: Mapping[str, int], spaces: str) -> dict[str, int]:
    """Cut the words of a shard by HF's pre-tokenizer; returns the counts of the pieces."""
    cutter = huggingface.pre_tokenizer(spaces)
    separator = " " if spaces == "article" else BOUNDARY
    piece_counts: Counter[str] = Counter()
    words = [word for word in word_counts if word]
    for first in range(0, len(words), _BATCH):
        batch = words[first : first + _BATCH]
        texts = [huggingface.surface(word, spaces) for word in batch]
        pieces = iter(cutter.pre_tokenize_str(separator.join(texts)))
        piece, (start, _) = next(pieces, ("", (0, 0)))
        end = 0
        for word, text in zip(batch, texts, strict=True):
            end += len(text) + 1
            while piece and start < end:
                piece_counts[piece] += word_counts[word]
                piece, (start, _) = next(pieces, ("", (0, 0)))
    return piece_counts


def _make(
    recipe: Recipe,
    complete: Sequence[shards.Shard],
    group: Sequence[shards.Shard],
    spaces: str,
    folder: Path,
) -> Mapping[str, Any]:
    documents.refuse_too_few(recipe, complete)
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of a task that was killed
    texts = (
        text
        for shard in group
        for text in shards.texts(shards.part_file(shard.folder, shards.TRAIN))
    )
    words = counts.write(folder, count(texts, spaces, scratch))
    shutil.rmtree(scratch, ignore_errors=True)
    return {"words": words}
