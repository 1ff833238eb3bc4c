"""Text from the released model: a raw prompt goes the way the corpus went, plain text comes back.

Of a checkpoint in mid-training no export is waited for: its weights are read as an export would hold
them, and each sample says how far the training had come.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.defaults import NonDefaults
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards
from kit.errors import InputError, StageError
from kit.release import evaluate, export
from kit.release import source as sources
from kit.store import manifest
from kit.store.files import write_json
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Tokenizer

    from kit.release.source import ReleaseSource
    from kit.store.paths import Run

VERSION = 2  # raise when the same model comes to write other text
SAMPLES = "samples.json"
# What of a recipe decides the text that an export writes after a prompt.
SETTINGS = (
    "release.temperature", "release.top_p", "release.max_new_tokens", "release.seed",
)  # fmt: skip


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """The one unit of the stage: the recipe's prompts. Raises StageError before the export."""
    if run.job_at is not None:
        return [_unit_at(sources.of(run), recipe)]
    inputs = {"export": manifest.fingerprint(run.export, "jobs.export")}
    causes = manifest.causes("generate", VERSION, NonDefaults(recipe.release), inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        texts = generate(run.export, recipe, recipe.release.prompts)
        pairs = zip(recipe.release.prompts, texts, strict=True)
        write_json(folder / SAMPLES, [{"prompt": p, "text": t} for p, t in pairs])
        return {}

    return [Unit("samples", run.samples, causes, make)]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    make_units("generate", units(run, read_resolved(run.recipe, Recipe)), task, tasks)
    sources.let_go(run)


def preload() -> None:
    """Import what is slow to import: for the fork server."""
    for name in (
        "transformers.models.gpt2.modeling_gpt2",
        "transformers.models.auto.modeling_auto",
    ):
        importlib.import_module(name)


def generate(folder: Path, recipe: Recipe, prompts: Sequence[str]) -> list[str]:
    """Each prompt with what a folder's model writes after it, as plain text; `SETTINGS` are the recipe's.

    Raises InputError for a prompt that normalises to nothing, or leaves no room for new tokens, StageError
    where the export has other weights than the recipe asks for.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    _refuse_other_weights(folder, recipe.release.dtype)
    # On the CPU, few of which have bf16 of their own.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return _write(model, huggingface.load(folder), recipe, prompts)


def _unit_at(source: ReleaseSource, recipe: Recipe) -> Unit:
    """The unit of a checkpoint beside the training."""
    moment = source.moment
    assert moment is not None
    inputs = evaluate.causes_of(recipe, source.checkpoint)
    causes = manifest.causes("generate", VERSION, NonDefaults(recipe.release), inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        model = evaluate.load_model(recipe, source).float()
        export.set_generation(model, recipe.release)
        tokenizer = huggingface.load(Workspace(Path(recipe.workspace)).tokenizer)
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
        given = huggingface.surface(shards.document(sentences), spaces)
        ids = tokenizer.encode(given, add_special_tokens=False).ids
        room = recipe.model.n_positions - len(ids)
        if not ids or room < 1:
            raise InputError(
                f"prompt '{prompt[:30]}': {len(ids)} tokens; give 1 to {recipe.model.n_positions - 1}"
            )
        torch.manual_seed(release.seed + number)
        made = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=min(room, release.max_new_tokens),
            do_sample=True,
            temperature=release.temperature,
            top_p=release.top_p,
        )
        texts.append(tokenizer.decode(made[0].tolist(), skip_special_tokens=True).strip())
    return texts


def _refuse_other_weights(export: Path, dtype: str) -> None:
    made = read_resolved(export / "recipe.json", Recipe).release.dtype
    if made != dtype:
        raise StageError(
            f"{export}: was made with release.dtype={made}, the recipe says {dtype}; run jobs.export first"
        )


def _spaces(tokenizer: Tokenizer) -> str:
    """What a space is to a released tokenizer, which its file does not say in so many words."""
    from tokenizers.pre_tokenizers import Whitespace

    return "article" if isinstance(tokenizer.pre_tokenizer, Whitespace) else "lossless"


def _segmented(prompts: Sequence[str], recipe: Recipe) -> list[list[str]]:
    """The prompts as sentences of a shard; their last lines are left open, to be gone on with."""
    from kit.corpus import segment
    from kit.corpus.steps import segment_document

    corpus = recipe.corpus
    with segment.open(corpus.segmenter, corpus.segmenter_version, workers=1) as words:
        found = [segment_document(prompt.split("\n"), corpus, words) for prompt in prompts]
    for sentences in found:
        if sentences:
            sentences[-1] = sentences[-1].removesuffix(f" {shards.LINE_END}")
    return found
