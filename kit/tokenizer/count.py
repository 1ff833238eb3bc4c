"""Shards into word counts, a file for each group of shards: the count stage."""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards, tokens
from kit.data.shards import BOUNDARY
from kit.errors import InputError, StageError
from kit.store import manifest
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units
from kit.tokenizer import counts, huggingface

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_ROOM = (
    2_000_000  # distinct words in memory, 0.6 GB while they are cut; more go to disk, to be merged
)
_BATCH = 10_000  # words that are cut together
_FILES = 400  # that are merged at once: two open files each, of the 1,024 a process may have
_RUNS = "runs"  # a folder that is there while a unit is made


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit for each group of shards and way to treat spaces. Raises StageError while one is missing."""
    workspace = Workspace(Path(recipe.workspace))
    made = shards.complete(recipe)
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
            functools.partial(_make, recipe, made, group, spaces),
        )
        for spaces in ways(recipe)
        for number, group in enumerate(groups(recipe, made))
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    make_units("count", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def ways(recipe: Recipe) -> list[str]:
    """The ways to treat spaces that the recipe's candidates have."""
    return sorted({vocabulary.spaces for vocabulary in recipe.tokenizer.specs()})


def groups(recipe: Recipe, made: Sequence[shards.Shard]) -> list[list[shards.Shard]]:
    """Shards that follow one another, together up to `tokenizer.count_mb` of text, or one alone.

    Raises StageError where there would be too many to be merged at once.
    """
    found: list[list[shards.Shard]] = []
    size = 0.0
    for shard in made:
        text = manifest.read(shard.folder, "jobs.preprocess")["counts"][shards.TRAIN].get(
            "bytes", 0
        )
        if not found or size + text > recipe.tokenizer.count_mb * 1e6:
            found.append([])
            size = 0.0
        found[-1].append(shard)
        size += text
    if len(found) > _FILES:
        raise StageError(
            f"tokenizer.count_mb={recipe.tokenizer.count_mb}: gives {len(found)} word-count files, and "
            f"{_FILES} can be merged at once; raise it"
        )
    return found


def count(
    texts: Iterable[str], spaces: str, scratch: Path, room: int = _ROOM
) -> Iterator[counts.CountBatch]:
    """The counts of the words of segmented documents, in chunks.

    Holds about `room` distinct words in memory; what is more goes into folders under `scratch`.
    """
    runs: list[Path] = []
    met: Counter[str] = Counter()
    for text in texts:
        met.update(text.replace("\n", " ").split(" "))
        if len(met) > room:
            runs.append(scratch / str(len(runs)))
            counts.write(runs[-1], counts.chunks(_cut(met, spaces)))
            met.clear()
    last = counts.chunks(_cut(met, spaces))
    yield from counts.merge([*map(counts.read, runs), last]) if runs else last


def _cut(met: Mapping[str, int], spaces: str) -> dict[str, int]:
    """The counts of the pieces that HF's pre-tokenizer cuts words of a shard into."""
    cutter = huggingface.pre_tokenizer(spaces)
    separator = " " if spaces == "article" else BOUNDARY
    found: Counter[str] = Counter()
    words = [word for word in met if word]
    for first in range(0, len(words), _BATCH):
        batch = words[first : first + _BATCH]
        texts = [huggingface.surface(word, spaces) for word in batch]
        pieces = iter(cutter.pre_tokenize_str(separator.join(texts)))
        piece, (start, _) = next(pieces, ("", (0, 0)))
        end = 0
        for word, text in zip(batch, texts, strict=True):
            end += len(text) + 1
            while piece and start < end:
                found[piece] += met[word]
                piece, (start, _) = next(pieces, ("", (0, 0)))
    return found


def _make(
    recipe: Recipe,
    made: Sequence[shards.Shard],
    group: Sequence[shards.Shard],
    spaces: str,
    folder: Path,
) -> Mapping[str, Any]:
    _check_documents(recipe, made)
    scratch = folder / _RUNS
    shutil.rmtree(scratch, ignore_errors=True)  # of a task that was killed
    texts = (
        text
        for shard in group
        for text in shards.texts(shards.part_file(shard.folder, shards.TRAIN))
    )
    words = counts.write(folder, count(texts, spaces, scratch))
    shutil.rmtree(scratch, ignore_errors=True)
    return {"words": words}


def _check_documents(recipe: Recipe, made: Sequence[shards.Shard]) -> None:
    """Raises InputError for an empty corpus, and where all documents are held out, or none is."""
    train, held_out = (documents(made, part) for part in shards.PARTS)
    if not train + held_out:
        raise InputError(
            f"corpus.sources: the corpus is empty: {', '.join(recipe.corpus.sources)} hold no text"
        )
    if not (train and held_out):
        missing = "is held out" if train else "is left for training"
        raise InputError(
            f"corpus.held_out={recipe.corpus.held_out}: of {train + held_out} documents none {missing}; "
            "change it, or give more text"
        )


def documents(made: Sequence[shards.Shard], part: str) -> int:
    """How many documents one part of the shards has."""
    facts = (manifest.read(shard.folder, "jobs.preprocess")["counts"] for shard in made)
    return sum(found[part].get("documents", 0) for found in facts)
