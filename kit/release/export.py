"""The released model: a folder that transformers loads with no code of ours.

Weights as safetensors, tokenizer, generation defaults, a model card, and the training record: the
resolved recipe and the ledger's curve.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import manifest, places, stage
from kit.config import Recipe
from kit.files import atomic, read_json, write_json, write_text
from kit.release import card, evaluate
from kit.sections import read_resolved
from kit.tokenizer import assemble
from kit.tracking import ledger
from kit.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.workspace import Run

VERSION = 3  # raise when the same weights come to give another folder


def units(run: Run, recipe: Recipe) -> list[stage.Unit]:
    """The one unit of the stage. Raises CheckpointError or StageError before training and scores."""
    from kit.training import checkpoint

    chosen = checkpoint.final(run, "jobs.train")
    inputs = {
        **evaluate.causes_of(recipe, chosen),
        "scores": manifest.fingerprint(run.evaluation, "jobs.evaluate"),
    }
    causes = manifest.causes("export", VERSION, recipe.release, inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        from transformers import GenerationConfig

        model = evaluate.load_model(recipe, chosen)
        model.config.use_cache = True
        model.generation_config = GenerationConfig(
            bos_token_id=model.config.bos_token_id,
            eos_token_id=model.config.eos_token_id,
            pad_token_id=model.config.eos_token_id,
            do_sample=True,
            temperature=recipe.release.temperature,
            top_p=recipe.release.top_p,
        )
        model.save_pretrained(folder)
        tokenizer = Workspace(Path(recipe.workspace)).tokenizer
        shutil.copyfile(tokenizer / assemble.FILE, folder / assemble.FILE)
        settings = read_json(tokenizer / assemble.SETTINGS)
        settings["model_max_length"] = recipe.model.n_positions
        write_json(folder / assemble.SETTINGS, settings)
        scores = read_json(run.evaluation / evaluate.SCORES)
        write_text(folder / "README.md", card.text(run, recipe, scores))
        write_json(folder / "recipe.json", places.released(recipe.model_dump(mode="json")))
        with atomic(folder / "ledger.jsonl", "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in ledger.canonical(run))
        return {}

    return [stage.Unit("export", run.export, causes, make)]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    stage.run("export", units(run, read_resolved(run.recipe, Recipe)), task, tasks)
