"""Generate text with the released model, from raw prompts processed like the corpus.

A checkpoint taken during training needs no export first: its weights are read as an export would store
them, and each sample records the progress of training.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.defaults import NonDefaults
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import tokenizer_file
from kit.errors import StageError
from kit.models import architectures
from kit.release import closing, continuation, evaluate, exported, loaded, model_files
from kit.release import source as sources
from kit.release.tasks import scoring
from kit.store import manifest
from kit.store.files import write_json
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units
from kit.tracking.mlflow.publishing import publish_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.release.source import ReleaseSource
    from kit.store.paths import Run

VERSION = 2  # raise when the same model comes to write other text
SAMPLES = "samples.json"
# The keys of a recipe that affect the text an export generates.
SETTINGS = (
    "release.temperature", "release.top_p", "release.max_new_tokens", "release.seed",
)  # fmt: skip


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """The one unit of the stage: the recipe's prompts. Raises StageError until the model is exported."""
    if run.job_at is not None:
        return [_unit_at(sources.source_of(run), recipe)]
    inputs = {"export": manifest.fingerprint(run.export, "jobs.export")}
    causes = manifest.causes("generate", VERSION, NonDefaults(recipe.release, scoring.KEYS), inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        texts = generate(run.export, recipe, recipe.release.prompts)
        pairs = zip(recipe.release.prompts, texts, strict=True)
        write_json(folder / SAMPLES, [{"prompt": p, "text": t} for p, t in pairs])
        return {}

    return [Unit("samples", run.samples, causes, make)]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    recipe = read_resolved(run.recipe, Recipe)
    make_units("generate", units(run, recipe), task, tasks)
    sources.remove_links(run)
    if run.job_at is None:  # the last stage of a run
        closing.report(run)
    publish_results(run, recipe)


def preload() -> None:
    """Import the slow modules, for the fork server."""
    for name in (*architectures.MODULES, "transformers.models.auto.modeling_auto"):
        importlib.import_module(name)


def generate(folder: Path, recipe: Recipe, prompts: Sequence[str]) -> list[str]:
    """Continue prompts with the model of a folder; returns prompts and continuations as plain text.

    `SETTINGS` come from the recipe. Raises InputError for a prompt that is empty after normalisation or
    leaves no room for new tokens, StageError if the export has a different dtype than the recipe.
    """
    refuse_other_weights(folder, recipe.release.dtype)
    return continuation.texts(*exported.load(folder), recipe, prompts)


def refuse_other_weights(export: Path, dtype: str) -> None:
    """Raise StageError if an export has another dtype."""
    own = exported.recipe_of(export).release.dtype
    if own != dtype:
        raise StageError(
            f"{export}: exported with release.dtype={own}, but the recipe says {dtype}; run "
            "ekiden export first"
        )


def _unit_at(source: ReleaseSource, recipe: Recipe) -> Unit:
    """The unit of a checkpoint taken during training."""
    moment = source.moment
    assert moment is not None
    inputs = evaluate.causes_of(recipe, source.checkpoint)
    causes = manifest.causes("generate", VERSION, NonDefaults(recipe.release, scoring.KEYS), inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        model = loaded.load_model(recipe, source).float()
        model_files.set_generation(model, recipe.release)
        tokenizer = tokenizer_file.load(Workspace(Path(recipe.workspace)).tokenizer)
        prompts = recipe.release.prompts
        pairs = zip(prompts, continuation.texts(model, tokenizer, recipe, prompts), strict=True)
        rows = [{"prompt": p, "text": t, "training": moment.facts()} for p, t in pairs]
        write_json(folder / SAMPLES, rows)
        return {}

    return Unit("samples", source.place.samples, causes, make)
