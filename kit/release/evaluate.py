"""Scores on the held-out documents: perplexity per token and bits per byte, beside a unigram model.

Perplexity depends on the tokenizer; bits per byte, the loss of all held-out tokens over the UTF-8 bytes of
their text, do not. A model that has learnt anything beats the unigram model of its training tokens. The
same text is scored as readers without a segmenter encode it, too. The scores of a checkpoint taken during
training record its progress under `training`.

The tasks of `release.tasks` are further units of the stage: see kit/release/tasks/. Every score is also a
row of the ledger of evaluations.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards, tokens
from kit.errors import CheckpointError
from kit.output.progress import progress_bar
from kit.release import raw_text
from kit.release import source as sources
from kit.release.loaded import load_model
from kit.release.tasks import scoring
from kit.store import manifest
from kit.store.files import read_json, text_hash, write_json
from kit.store.units import Unit, make_units
from kit.tracking import scores as ledger
from kit.tracking.mlflow.publishing import publish_results

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.release.source import ReleaseSource
    from kit.store.paths import Run
    from kit.tracking.scores import ScoreRow
    from kit.training.checkpoint import Checkpoint

VERSION = 3  # raise when the same weights come to get other scores
SCORES = "scores.json"
_MEASURES = ("bits_per_byte", "perplexity", "loss")  # of the scores, for the ledger of evaluations


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """The held-out documents, then the tasks of the recipe.

    Raises CheckpointError until there is a checkpoint, StageError for a task without its files.
    """
    source = sources.source_of(run)
    inputs = causes_of(recipe, source.checkpoint)
    causes = manifest.causes("evaluate", VERSION, {"dtype": recipe.release.dtype}, inputs)

    def make(folder: Path) -> Mapping[str, Any]:
        device = read_resolved(run.cluster, Cluster).device
        found = scores(recipe, source, device)
        write_json(folder / SCORES, found)
        now = time.time()
        ledger.add(source.run, _rows(source, found, inputs, now))
        return {"time": now}

    held_out = Unit("evaluation", source.place.evaluation, causes, make)
    return [held_out, *scoring.units(run, recipe, source, inputs)]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    recipe = read_resolved(run.recipe, Recipe)
    make_units("evaluate", units(run, recipe), task, tasks)
    sources.remove_links(run)
    publish_results(run, recipe)


def causes_of(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, str]:
    """The causes of a release: the weights, and the tokens and tokenizer they were trained on.

    Raises StageError or CheckpointError if the workspace now holds different ones.
    """
    record = checkpoint.record
    data = tokens.fingerprint(tokens.complete(recipe))
    if record["data"] != data:
        raise CheckpointError(
            f"{checkpoint.folder}: trained on other tokens than the workspace now has; "
            "restore them, or start a new run under another name"
        )
    hashes = "".join(file["xxh3"] for _, file in sorted(record["files"].items()))
    weights = f"{text_hash(hashes):016x}"
    return {"checkpoint": checkpoint.folder.name, "weights": weights, "data": data}


def scores(recipe: Recipe, source: ReleaseSource, device: str) -> dict[str, Any]:
    """Score a checkpoint's weights in the dtype of the release; losses are in nats per token."""
    data = tokens.complete(recipe)
    train, held_out = (tokens.open_part(data, part, recipe) for part in shards.PARTS)
    text_bytes = tokens.text_bytes((unit.folder for unit in data), shards.HELD_OUT)
    model, length = _ready(load_model(recipe, source), device), recipe.model.n_positions
    total = total_loss(model, held_out, length)
    raw = raw_text.read(recipe)
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
        "raw_share": raw.share,
        "raw_bits_per_byte": total_loss(model, raw.stream, length) / math.log(2) / text_bytes,
        "unigram_loss": unigram,
        "unigram_perplexity": math.exp(unigram),
        **({} if source.moment is None else {"training": source.moment.facts()}),
    }


def rows(source: ReleaseSource, weights: Mapping[str, str]) -> list[ScoreRow]:
    """The scores of a release on the held-out documents, as rows of the ledger of evaluations."""
    folder = source.place.evaluation
    return _rows(source, read_json(folder / SCORES), weights, ledger.time_of(folder))


def _rows(
    source: ReleaseSource, found: Mapping[str, Any], causes: Mapping[str, str], now: float
) -> list[ScoreRow]:
    return [
        {
            "kind": "score",
            "time": now,
            "step": source.checkpoint.step,
            "checkpoint": source.checkpoint.folder.name,
            "weights": causes["weights"],
            "dtype": found["dtype"],
            "task": ledger.HELD_OUT,
            "metric": metric,
            "value": found[metric],
            "data": causes["data"],
            "main": metric == "bits_per_byte",
        }
        for metric in _MEASURES
        if metric in found
    ]


def preload() -> None:
    """Import the slow modules, for the fork server."""
    from kit.training import language_model

    language_model.preload()


def total_loss(model: Any, stream: tokens.TokenStream, length: int) -> float:
    """The summed loss in nats of every token of a stream except the first, read in blocks of `length`."""
    import torch
    import torch.nn.functional as F  # noqa: N812  torch's own name for it

    total = 0.0
    with torch.no_grad(), progress_bar("evaluate", len(stream) - 1, "token") as advance_to:
        for start in range(0, len(stream) - 1, length):
            advance_to(start)
            block = torch.from_numpy(stream.slice(start, start + length + 1)).to(model.device)
            logits = model(block[None, :-1]).logits[0].float()
            total += float(F.cross_entropy(logits, block[1:], reduction="sum"))
    return total


def _ready(model: Any, device: str) -> Any:
    """A model of the release on a GPU (device cuda, if there is one), or in fp32 on the CPU.

    Few CPUs have native bf16.
    """
    import torch

    return model.cuda() if device == "cuda" and torch.cuda.is_available() else model.float()


def unigram_loss(train: tokens.TokenStream, held_out: tokens.TokenStream, vocab_size: int) -> float:
    """The loss in nats per token of a unigram model of the training tokens, with add-one smoothing."""

    counts = np.ones(vocab_size)
    for file in train.files:
        counts += np.bincount(file, minlength=vocab_size)
    frequencies = np.log(counts / counts.sum())
    predicted = held_out.slice(1, len(held_out))
    return float(-frequencies[predicted].mean())
