"""The facts of a card, gathered once from the run, its workspace and the exported folder."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from kit import __version__
from kit.models import architectures
from kit.models.llama import Llama
from kit.release.card import corpus, training
from kit.release.card.facts import CardFacts, LlamaFacts, ModelFacts
from kit.run import begun, commit
from kit.store.paths import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.release.source import ReleaseSource

_SCORES, _HELD_OUT = "scores.jsonl", "held-out"


def gather(
    source: ReleaseSource, recipe: Recipe, folder: Path, scores: dict[str, Any] | None
) -> CardFacts:
    """Gather the facts about an export into `folder`, which holds all of it but its card.

    `scores` are those of `evaluate.scores`. Raises StageError if corpus or tokenizer are missing.
    """
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    begun.refuse_base_model(source.run, recipe)
    of_corpus, read = corpus.corpus_facts(recipe), training.events(source)
    attempts = training.beginnings(read)
    of_training = training.training_facts(source, recipe, of_corpus.tokens, attempts)
    return CardFacts(
        name=recipe.name,
        version=__version__,
        commit=commit.read(source.run.code),
        release=recipe.release,
        moment=source.moment,
        model=_model(recipe, folder),
        corpus=of_corpus,
        tokenizer=corpus.tokenizer_facts(recipe),
        training=of_training,
        energy=training.energy_facts(source, recipe, of_training, read),
        scores=scores,
        task_scores=_task_scores(folder / _SCORES),
        files=files,
    )


def _model(recipe: Recipe, folder: Path) -> ModelFacts:
    """The shape of the model, and its weights as they are released."""
    model, weights = recipe.model, sorted(folder.glob("*.safetensors"))
    architecture = architectures.of(model)
    return ModelFacts(
        architecture.title,
        architecture.model_class,
        architecture.model_type,
        _llama(architecture) if isinstance(architecture, Llama) else None,
        model.n_layer,
        model.n_embd,
        model.n_head,
        model.n_positions,
        sum(map(_parameters, weights)),
        recipe.release.dtype,
        sum(path.stat().st_size for path in weights),
    )


def _llama(architecture: Llama) -> LlamaFacts:
    return LlamaFacts(
        architecture.key_value_heads,
        architecture.inner_width,
        architecture.model.rope_theta,
        architecture.is_tied,
    )


def _parameters(weights: Path) -> int:
    """The number of parameters in a file of weights, from its head.

    Format: https://huggingface.co/docs/safetensors: the length of the head, as uint64 in
    little-endian, and the head in JSON.
    """
    with weights.open("rb") as stream:
        head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(math.prod(one["shape"]) for name, one in head.items() if name != "__metadata__")


def _task_scores(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of scores that are of tasks, not of the held-out documents."""
    if not path.is_file():
        return []
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["task"] != _HELD_OUT]
