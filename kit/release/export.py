"""The released model: a folder that transformers loads without any code of the kit.

It holds weights as safetensors, tokenizer, generation defaults, a model card in two languages with a
picture of the loss, the training record (the resolved recipe, the ledger's curve, also as an event file of
TensorBoard, and the report on the run), and the provenance in two standard forms: Croissant for the corpus,
CycloneDX for model, data and packages. For a checkpoint taken during training, the card and `training.json`
say so; its scores may be missing, and the folder is remade once there are scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config import relocation
from kit.config.defaults import NonDefaults
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import tokenizer_file
from kit.release import (
    bom,
    closing,
    croissant,
    evaluate,
    gguf_file,
    loaded,
    model_files,
    results,
    tokenizer_files,
)
from kit.release import source as sources
from kit.release.card import pages
from kit.release.card.gather import gather
from kit.release.tasks import scoring
from kit.store import manifest
from kit.store.files import atomic, read_json, write_json
from kit.store.paths import MANIFEST, Workspace
from kit.store.units import Unit, make_units
from kit.tracking import curve_events
from kit.tracking.mlflow.publishing import publish_results

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.release.source import ReleaseSource
    from kit.store.paths import Run

VERSION = 9  # raise when the same weights come to give another folder


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """The one unit of the stage. Raises CheckpointError or StageError before training and scores."""
    source = sources.source_of(run)
    weights = evaluate.causes_of(recipe, source.checkpoint)
    scored = _is_scored(source, weights)
    scores_of = source.place.evaluation
    inputs: dict[str, Any] = {
        **weights,
        "scores": manifest.fingerprint(scores_of, "jobs.evaluate") if scored else None,
    }
    if tasks := scoring.fingerprints(source, weights):
        inputs["tasks"] = tasks
    section = NonDefaults(recipe.release, scoring.KEYS)
    causes = manifest.causes("export", VERSION, section, inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        model = loaded.load_model(recipe, source)
        model_files.set_generation(model, recipe.release)
        model_files.save(model, folder)
        tokenizer = Workspace(Path(recipe.workspace)).tokenizer
        tokenizer_files.save(tokenizer, recipe.release, recipe.model.n_positions, folder)
        _save_gguf(model, recipe, folder)
        scores = read_json(scores_of / evaluate.SCORES) if scored else None
        write_json(folder / "recipe.json", relocation.for_release(recipe.model_dump(mode="json")))
        with atomic(folder / "ledger.jsonl", "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in source.curve())
        results.write(folder, results.of(source, weights, scored=scored))
        last = None if source.moment is None else source.checkpoint.step
        curve_events.write(source.run, recipe, last, folder / "runs")
        if source.moment is None:
            closing.public_report(source.run, folder)
        else:
            write_json(folder / "training.json", source.moment.facts())
        # The card comes after the files that it names, the bill after all others.
        facts = gather(source, recipe, folder, scores)
        pages.write(facts, source, recipe, folder)
        corpus = croissant.shard_files(recipe)
        write_json(folder / croissant.FILE, croissant.description(facts, corpus))
        bill = bom.bill(facts, source.run, folder, weights["weights"], corpus)
        write_json(folder / bom.FILE, bill)
        return {}

    return [Unit("export", source.place.export, causes, make, published=True)]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    recipe = read_resolved(run.recipe, Recipe)
    make_units("export", units(run, recipe), task, tasks)
    sources.remove_links(run)
    publish_results(run, recipe)


def _save_gguf(model: Any, recipe: Recipe, folder: Path) -> None:
    """Write the recipe's GGUF files beside the weights."""
    tokenizer = tokenizer_file.load(folder)
    for kind in recipe.release.gguf:
        path = folder / gguf_file.file_name(recipe.name, kind)
        gguf_file.save(
            model, tokenizer, path, kind, name=recipe.name, license_name=recipe.release.license
        )


def _is_scored(source: ReleaseSource, weights: dict[str, str]) -> bool:
    """Whether there are scores for the card; the export of a finished run waits for them."""

    place = source.place.evaluation
    if source.moment is None:
        return True
    if not (place / MANIFEST).is_file():
        return False
    made_from: object = manifest.read(place, "jobs.evaluate")["causes"]["inputs"]
    return made_from == weights
