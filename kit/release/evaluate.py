"""Scores on the held-out part: perplexity per token, bits per byte, and a unigram model beside them.

Perplexity depends on the tokenizer, bits per byte do not: the loss of all held-out tokens over the
UTF-8 bytes of their text. A model that has learnt anything beats the unigram model of its own
training tokens. Of a checkpoint in mid-training the scores say so, under `training`.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards, tokens
from kit.errors import CheckpointError
from kit.output import log
from kit.output.progress import shown
from kit.release import source as sources
from kit.store import manifest
from kit.store.files import text_hash, write_json
from kit.store.units import Unit, make_units
from kit.tracking import mlflow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.release.source import ReleaseSource
    from kit.store.paths import Run
    from kit.training.checkpoint import Checkpoint

VERSION = 2  # raise when the same weights come to get other scores
SCORES = "scores.json"


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """The one unit of the stage. Raises CheckpointError before there is a checkpoint."""
    source = sources.of(run)
    inputs = causes_of(recipe, source.checkpoint)
    causes = manifest.causes("evaluate", VERSION, {"dtype": recipe.release.dtype}, inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        device = read_resolved(run.cluster, Cluster).device
        write_json(folder / SCORES, scores(recipe, source, device))
        return {}

    return [Unit("evaluation", source.place.evaluation, causes, make)]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    recipe = read_resolved(run.recipe, Recipe)
    make_units("evaluate", units(run, recipe), task, tasks)
    sources.let_go(run)
    if run.job_at is not None:  # the run's ledger is published by its training
        return
    if recipe.tracking.mlflow is not None and (problem := mlflow.publish(run, recipe, "FINISHED")):
        log.warning(f"mlflow: {problem}; run jobs.evaluate again when it is back")


def causes_of(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, str]:
    """What a release is made from: the weights, and the tokens and tokenizer they were trained on.

    Raises StageError or CheckpointError where the workspace holds other ones by now.
    """
    record = checkpoint.record
    data = tokens.fingerprint(tokens.complete(recipe))
    if record["data"] != data:
        raise CheckpointError(
            f"{checkpoint.folder}: was trained on other tokens than the workspace holds now; "
            "restore them, or begin a new run under another name"
        )
    hashes = "".join(file["xxh3"] for _, file in sorted(record["files"].items()))
    weights = f"{text_hash(hashes):016x}"
    return {"checkpoint": checkpoint.folder.name, "weights": weights, "data": data}


def scores(recipe: Recipe, source: ReleaseSource, device: str) -> dict[str, Any]:
    """The scores of a checkpoint's weights as they are released; losses are in nats a token."""
    data = tokens.complete(recipe)
    train, held_out = (tokens.open_part(data, part, recipe) for part in shards.PARTS)
    text_bytes = sum(
        manifest.read(unit.folder, "jobs.tokenize")["counts"][shards.HELD_OUT].get("bytes", 0)
        for unit in data
    )
    total = total_loss(recipe, source, held_out, device)
    predicted = len(held_out) - 1
    loss = total / predicted
    unigram = unigram_loss(train, held_out, tokens.tokenizer_info(recipe).size)
    return {
        "step": source.checkpoint.step,
        "dtype": recipe.release.dtype,
        "held_out_tokens": predicted,
        "held_out_bytes": text_bytes,
        "loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": total / math.log(2) / text_bytes,
        "unigram_loss": unigram,
        "unigram_perplexity": math.exp(unigram),
        **({} if source.moment is None else {"training": source.moment.facts()}),
    }


def preload() -> None:
    """Import what is slow to import: for the fork server."""
    importlib.import_module("transformers.models.gpt2.modeling_gpt2")


def total_loss(
    recipe: Recipe, source: ReleaseSource, row: tokens.TokenStream, device: str
) -> float:
    """The summed loss in nats of every token of a row but its first, read in blocks.

    The weights are those of the release. A GPU (device cuda, where there is one) computes in their
    dtype, a CPU in fp32: few have bf16 of their own.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812  torch's own name for it

    model = load_model(recipe, source)
    model = model.cuda() if device == "cuda" and torch.cuda.is_available() else model.float()
    length = recipe.model.n_positions
    total = 0.0
    with torch.no_grad(), shown("evaluate", len(row) - 1, "token") as at:
        for start in range(0, len(row) - 1, length):
            at(start)
            block = torch.from_numpy(row.slice(start, start + length + 1)).to(model.device)
            logits = model(block[None, :-1]).logits[0].float()
            total += float(F.cross_entropy(logits, block[1:], reduction="sum"))
    return total


def load_model(recipe: Recipe, source: ReleaseSource) -> Any:
    """A checkpoint's weights as a transformers.GPT2LMHeadModel on the CPU, in the dtype of the release.

    Raises CheckpointError where its bytes are not those that were written.
    """
    import torch
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    from kit.models import gpt2
    from kit.training import engine

    logging.disable_progress_bar()
    sources.require_files(source)
    vocabulary = tokens.tokenizer_info(recipe)
    model = GPT2LMHeadModel(gpt2.configuration(recipe.model, vocabulary))
    held = engine.weights(source.checkpoint.state)
    missing, unknown = model.load_state_dict(gpt2.released(held, vocabulary.size), strict=False)
    assert not unknown, unknown
    assert set(missing) <= {"lm_head.weight"}, missing  # tied; ZeRO-3 keeps one of the two
    model.tie_weights()
    return model.to(getattr(torch, recipe.release.dtype)).eval()


def unigram_loss(train: tokens.TokenStream, held_out: tokens.TokenStream, vocab_size: int) -> float:
    """The loss in nats a token of a unigram model, counted on the training tokens plus one each."""
    counts = np.ones(vocab_size)
    for file in train.files:
        counts += np.bincount(file, minlength=vocab_size)
    frequencies = np.log(counts / counts.sum())
    predicted = held_out.slice(1, len(held_out))
    return float(-frequencies[predicted].mean())
