"""The tokenizers of the recipe's list, each trained from the words and measured: the candidates stage."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.defaults import NonDefaults
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards, tokens
from kit.errors import InputError
from kit.output import log
from kit.store import manifest
from kit.store.files import text_hash
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units, require
from kit.tokenizer import bpe, count, counts, huggingface, merge, unigram
from kit.tokenizer import measure as measures
from kit.tracking import mlflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenizers import Tokenizer

    from kit.config.tokenizer import TokenizerSpec

PLOT = "plot.png"


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """One unit a candidate. Raises StageError while the words are not counted."""
    workspace = Workspace(Path(recipe.workspace))
    words = {unit.name: unit for unit in merge.units(run, recipe)}
    require([*words.values()], "jobs.tokenizer")
    made = shards.complete(recipe)
    text = {shard.name: manifest.fingerprint(shard.folder, "jobs.preprocess") for shard in made}
    found = []
    for vocabulary in recipe.tokenizer.specs():
        folder = words[vocabulary.spaces].folder
        inputs = {"words": manifest.fingerprint(folder, "jobs.tokenizer")} | text
        section = NonDefaults(vocabulary, also=_of_bpe(recipe, vocabulary))
        causes = manifest.causes("candidates", tokens.TOKENIZER_VERSION, section, inputs)
        make = functools.partial(_make, recipe, vocabulary, made)
        found.append(Unit(vocabulary.name, workspace.candidate(vocabulary.name), causes, make))
    return found


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads. Each candidate is a run in MLflow."""
    recipe = read_resolved(run.recipe, Recipe)
    found = units(run, recipe)
    make_units("candidates", found, task, tasks)
    for unit in found[task::tasks]:
        if problem := publish(recipe, unit):
            log.warning(f"mlflow: {problem}; run jobs.tokenizer again when it is back")


def parameters(recipe: Recipe, vocabulary: TokenizerSpec) -> dict[str, Any]:
    """All that decides a candidate but the words, by name."""
    return vocabulary.model_dump(mode="json") | _of_bpe(recipe, vocabulary)


def train(recipe: Recipe, vocabulary: TokenizerSpec) -> Tokenizer:
    """The candidate's tokenizer. Raises InputError, which names it, where the words cannot give it."""
    words = _words(recipe, vocabulary)
    try:
        if vocabulary.algorithm == "unigram":
            return unigram.train(words, vocabulary)
        return bpe.train(words, vocabulary, recipe.tokenizer.min_frequency)
    except InputError as error:
        if recipe.tokenizer.candidates:
            raise InputError(f"candidate {vocabulary.name}: {error}") from None
        raise


def publish(recipe: Recipe, unit: Unit) -> str | None:
    """Have MLflow show a candidate; returns a problem in one line, or None."""
    if recipe.tracking.mlflow is None:
        return None
    made = manifest.fingerprint(unit.folder, "jobs.tokenizer")
    identity = f"{text_hash(f'{unit.folder.resolve()}:{made}'):016x}"
    figures = manifest.read(unit.folder, "jobs.tokenizer")["measures"]
    section = parameters(recipe, recipe.tokenizer.spec(unit.name))
    return mlflow.publish_candidate(
        recipe, unit.name, identity, section, figures, unit.folder / PLOT
    )


def _of_bpe(recipe: Recipe, vocabulary: TokenizerSpec) -> dict[str, int]:
    """What the section `tokenizer` decides of a candidate that merges pairs."""
    return (
        {"min_frequency": recipe.tokenizer.min_frequency} if vocabulary.algorithm == "bpe" else {}
    )


def _make(
    recipe: Recipe, vocabulary: TokenizerSpec, made: list[shards.Shard], folder: Path
) -> Mapping[str, Any]:
    huggingface.save(train(recipe, vocabulary), folder)
    # As it will be used: JSON rounds the scores of a Unigram model.
    tokenizer = huggingface.load(folder)
    held_out = itertools.chain.from_iterable(
        shards.read(shards.part_file(shard.folder, shards.HELD_OUT)) for shard in made
    )
    found = measures.measure(
        tokenizer,
        vocabulary.spaces,
        held_out,
        _words(recipe, vocabulary),
        count.documents(made, shards.TRAIN),
    )
    measures.plot(found, vocabulary.name, folder / PLOT)
    return {"measures": found.as_dict(), "vocabulary": vocabulary_of(tokenizer)}


def _words(recipe: Recipe, vocabulary: TokenizerSpec) -> Iterator[counts.CountBatch]:
    """The words of the training text, as they were merged."""
    folder = Workspace(Path(recipe.workspace)).words(vocabulary.spaces)
    return counts.read(manifest.verified(folder, "jobs.tokenizer"))


def vocabulary_of(tokenizer: Tokenizer) -> dict[str, int]:
    """What training has to know of a tokenizer: how many entries it has, and which ids are special."""
    begin, end = (tokenizer.token_to_id(token) for token in (huggingface.BEGIN, huggingface.END))
    assert begin is not None
    assert end is not None
    return {"size": tokenizer.get_vocab_size(), "begin": begin, "end": end}
