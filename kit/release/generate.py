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
from kit.data import shards, tokenizer_file
from kit.errors import InputError, StageError
from kit.release import closing, evaluate, model_files
from kit.release import source as sources
from kit.store import manifest
from kit.store.files import write_json
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units
from kit.tokenizer import huggingface
from kit.tracking.mlflow.publishing import publish_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Tokenizer

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
    causes = manifest.causes("generate", VERSION, NonDefaults(recipe.release), inputs)

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
    for name in (
        "transformers.models.gpt2.modeling_gpt2",
        "transformers.models.auto.modeling_auto",
    ):
        importlib.import_module(name)


def generate(folder: Path, recipe: Recipe, prompts: Sequence[str]) -> list[str]:
    """Continue prompts with the model of a folder; returns prompts and continuations as plain text.

    `SETTINGS` come from the recipe. Raises InputError for a prompt that is empty after normalisation or
    leaves no room for new tokens, StageError if the export has a different dtype than the recipe.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    _refuse_other_weights(folder, recipe.release.dtype)
    # In fp32: it runs on the CPU, and few have native bf16.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return _write(model, tokenizer_file.load(folder), recipe, prompts)


def _unit_at(source: ReleaseSource, recipe: Recipe) -> Unit:
    """The unit of a checkpoint taken during training."""
    moment = source.moment
    assert moment is not None
    inputs = evaluate.causes_of(recipe, source.checkpoint)
    causes = manifest.causes("generate", VERSION, NonDefaults(recipe.release), inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        model = evaluate.load_model(recipe, source).float()
        model_files.set_generation(model, recipe.release)
        tokenizer = tokenizer_file.load(Workspace(Path(recipe.workspace)).tokenizer)
        prompts = recipe.release.prompts
        pairs = zip(prompts, _write(model, tokenizer, recipe, prompts), strict=True)
        rows = [{"prompt": p, "text": t, "training": moment.facts()} for p, t in pairs]
        write_json(folder / SAMPLES, rows)
        return {}

    return Unit("samples", source.place.samples, causes, make)


def _write(model: Any, tokenizer: Tokenizer, recipe: Recipe, prompts: Sequence[str]) -> list[str]:
    import torch

    spaces, release = _spaces(tokenizer), recipe.release
    texts = []
    for number, (prompt, sentences) in enumerate(
        zip(prompts, _segmented(prompts, recipe), strict=True)
    ):
        surface = huggingface.surface(shards.document(sentences), spaces)
        ids = tokenizer.encode(surface, add_special_tokens=False).ids
        room = recipe.model.n_positions - len(ids)
        if not ids or room < 1:
            raise InputError(
                f"prompt '{prompt[:30]}': {len(ids)} tokens; give 1 to {recipe.model.n_positions - 1}"
            )
        torch.manual_seed(release.seed + number)
        output = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=min(room, release.max_new_tokens),
            do_sample=True,
            temperature=release.temperature,
            top_p=release.top_p,
        )
        texts.append(tokenizer.decode(output[0].tolist(), skip_special_tokens=True).strip())
    return texts


def _refuse_other_weights(export: Path, dtype: str) -> None:
    exported = read_resolved(export / "recipe.json", Recipe).release.dtype
    if exported != dtype:
        raise StageError(
            f"{export}: exported with release.dtype={exported}, but the recipe says {dtype}; run "
            "jobs.export first"
        )


def _spaces(tokenizer: Tokenizer) -> str:
    """The value of `tokenizer.spaces` of a released tokenizer, whose file does not name it."""
    from tokenizers.pre_tokenizers import Whitespace

    return "article" if isinstance(tokenizer.pre_tokenizer, Whitespace) else "lossless"


def _segmented(prompts: Sequence[str], recipe: Recipe) -> list[list[str]]:
    """The prompts as sentences of a shard, their last line left open for the model to continue."""
    from kit.corpus import line_ends, segment
    from kit.corpus.steps import segment_document

    corpus = recipe.corpus
    lines = [line_ends.split(prompt, line_ends.of_mode(corpus.mode)) for prompt in prompts]
    with segment.open(corpus.segmenter, corpus.segmenter_version, workers=1) as words:
        documents = [segment_document(each, corpus, words) for each in lines]
    for sentences in documents:
        if sentences:
            sentences[-1] = sentences[-1].removesuffix(f" {shards.LINE_END}")
    return documents
