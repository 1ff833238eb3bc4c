"""The candidates stage: train and measure each tokenizer of the recipe's list."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.defaults import NonDefaults
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import documents, shards, tokenizer_file, tokens
from kit.errors import InputError
from kit.output import log
from kit.store import manifest
from kit.store.paths import Run, Workspace
from kit.store.units import Unit, make_units, require
from kit.tokenizer import bpe, counts, huggingface, merge, unigram
from kit.tokenizer import measure as measures
from kit.tracking.mlflow.candidates import candidate_identity, publish_candidate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenizers import Tokenizer

    from kit.config.tokenizer import TokenizerSpec

PLOT = "plot.png"


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """One unit per candidate. Raises StageError until the words are counted."""
    workspace = Workspace(Path(recipe.workspace))
    words = {unit.name: unit for unit in merge.units(run, recipe)}
    require([*words.values()], "jobs.tokenizer")
    complete = shards.complete(recipe)
    text = {s.name: manifest.fingerprint(s.folder, "jobs.preprocess") for s in complete}
    candidates = []
    for vocabulary in recipe.tokenizer.specs():
        folder = words[vocabulary.spaces].folder
        inputs = {"words": manifest.fingerprint(folder, "jobs.tokenizer")} | text
        section = NonDefaults(vocabulary, also=_bpe_settings(recipe, vocabulary))
        causes = manifest.causes("candidates", tokens.TOKENIZER_VERSION, section, inputs)
        make = functools.partial(_make, recipe, vocabulary, complete)
        candidates.append(Unit(vocabulary.name, workspace.candidate(vocabulary.name), causes, make))
    return candidates


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory. Each candidate is a run in MLflow."""
    recipe = read_resolved(run.recipe, Recipe)
    candidates = units(run, recipe)
    make_units("candidates", candidates, task, tasks)
    if recipe.tracking.mlflow_by == "sync":
        return
    for unit in candidates[task::tasks]:
        if problem := publish(recipe, unit):
            log.warning(
                f"mlflow: {problem}; once it answers, publish with: ekiden watch sync {run.root}"
            )


def parameters(recipe: Recipe, vocabulary: TokenizerSpec) -> dict[str, Any]:
    """The settings that decide a candidate, by name."""
    return vocabulary.model_dump(mode="json") | _bpe_settings(recipe, vocabulary)


def train(recipe: Recipe, vocabulary: TokenizerSpec) -> Tokenizer:
    """Train a candidate. Raises InputError, which names it, if the words cannot yield its entries."""
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
    """Publish a candidate to MLflow; returns a problem in one line, or None."""
    if recipe.tracking.mlflow is None:
        return None
    identity = candidate_identity(unit.folder)
    figures = manifest.read(unit.folder, "jobs.tokenizer")["measures"]
    section = parameters(recipe, recipe.tokenizer.spec(unit.name))
    return publish_candidate(recipe, unit.name, identity, section, figures, unit.folder / PLOT)


def _bpe_settings(recipe: Recipe, vocabulary: TokenizerSpec) -> dict[str, int]:
    """The settings of the whole section `tokenizer` that apply to a BPE candidate."""
    return (
        {"min_frequency": recipe.tokenizer.min_frequency} if vocabulary.algorithm == "bpe" else {}
    )


def _make(
    recipe: Recipe, vocabulary: TokenizerSpec, complete: list[shards.Shard], folder: Path
) -> Mapping[str, Any]:
    huggingface.save(train(recipe, vocabulary), folder)
    # Loaded as in later use: JSON rounds the scores of a Unigram model.
    tokenizer = tokenizer_file.load(folder)
    held_out = itertools.chain.from_iterable(
        shards.read(shards.part_file(shard.folder, shards.HELD_OUT)) for shard in complete
    )
    measured = measures.measure(
        tokenizer,
        vocabulary.spaces,
        held_out,
        _words(recipe, vocabulary),
        documents.number(complete, shards.TRAIN),
    )
    measures.plot(measured, vocabulary.name, folder / PLOT)
    return {"measures": measured.as_dict(), "vocabulary": vocabulary_of(tokenizer)}


def _words(recipe: Recipe, vocabulary: TokenizerSpec) -> Iterator[counts.CountBatch]:
    """The merged word counts of the training text."""
    folder = Workspace(Path(recipe.workspace)).words(vocabulary.spaces)
    return counts.read(manifest.verified(folder, "jobs.tokenizer"))


def vocabulary_of(tokenizer: Tokenizer) -> dict[str, int]:
    """The facts of a tokenizer that training needs: its number of entries, and the special ids."""
    begin, end = (tokenizer.token_to_id(token) for token in (huggingface.BEGIN, huggingface.END))
    assert begin is not None
    assert end is not None
    return {"size": tokenizer.get_vocab_size(), "begin": begin, "end": end}
