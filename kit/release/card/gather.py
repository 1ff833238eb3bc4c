"""The facts of a card, gathered once from the run, its workspace and the exported folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit import __version__
from kit.errors import ConfigError
from kit.release.card import corpus, training
from kit.release.card.facts import CardFacts, ModelFacts
from kit.run import commit

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.release.source import ReleaseSource
    from kit.store.paths import Run


def gather(
    source: ReleaseSource, recipe: Recipe, folder: Path, scores: dict[str, Any] | None
) -> CardFacts:
    """Gather the facts about an export into `folder`, which holds the weights.

    `scores` are those of `evaluate.scores`. Raises StageError if corpus or tokenizer are missing.
    """
    refuse_base_model(source.run, recipe)
    of_corpus, of_tokenizer = corpus.corpus_facts(recipe), corpus.tokenizer_facts(recipe)
    read = training.events(source)
    begun = training.beginnings(read)
    of_training = training.training_facts(source, recipe, of_corpus.tokens, begun)
    return CardFacts(
        name=recipe.name,
        version=__version__,
        commit=commit.read(source.run.code),
        release=recipe.release,
        moment=source.moment,
        model=_model(recipe, begun[0]["parameters"], of_tokenizer.size, folder),
        corpus=of_corpus,
        tokenizer=of_tokenizer,
        training=of_training,
        energy=training.energy_facts(source, recipe, of_training, read),
        scores=scores,
    )


def refuse_base_model(run: Run, recipe: Recipe) -> None:
    """Raise ConfigError for `release.base_model` of a run that is no fork."""
    if recipe.release.base_model is not None and not run.origin.is_file():
        raise ConfigError(
            f"release.base_model={recipe.release.base_model} has no effect: {run.root} is not a fork; "
            "leave it out"
        )


def _model(recipe: Recipe, trained: int, entries: int, folder: Path) -> ModelFacts:
    """The shape of the model; rows that pad the embedding were trained, and are not released."""
    from kit.plan.shape import padded_vocab_size

    model = recipe.model
    padding = padded_vocab_size(entries, model.pad_vocab_to) - entries
    return ModelFacts(
        model.n_layer,
        model.n_embd,
        model.n_head,
        model.n_positions,
        trained - padding * model.n_embd,
        recipe.release.dtype,
        sum(path.stat().st_size for path in folder.glob("*.safetensors")),
    )
