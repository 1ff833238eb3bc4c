"""One run: trained with the kit's parts in a plain loop of one process, and scored.

The model, its parameter groups, optimizer, schedule, order of blocks and scores are those of a real run.
DeepSpeed is left out, whose start would cost as much as the smallest run: tests/programs/test_update.py
holds that its update is the optimizer's.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from kit.config.defaults import NonDefaults
from kit.data import index, shards, tokens
from kit.plan.schedule import Schedule, Segment
from kit.store.files import text_hash
from kit.training import optimizer
from kit.training.batches import training_batches
from kit.training.language_model import LanguageModel
from tests.experiments import held_out, text, variants
from tests.experiments.results import Row

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kit.config.recipe import Recipe
    from kit.data.index import TokenFiles
    from kit.data.tokens import TokenStream
    from tests.experiments.results import Run
    from tests.experiments.variants import Size

VERSION = 2  # raise when the same recipe and tokens give other scores
_AT_ONCE = 32  # held-out blocks


def recipe(folder: Path, run: Run, size: Size) -> Recipe:
    """The recipe of a run."""
    overrides = variants.overrides(run.variant, size, run.seed, run.rate)
    return text.recipe(folder, run.variant, overrides)


def causes(made: Recipe, files: TokenFiles) -> str:
    """A hash of all that decides the scores of a run."""
    left_out = frozenset({"deepspeed"})
    sections = [NonDefaults(made.model), NonDefaults(made.training, left_out)]
    return f"{text_hash(f'{VERSION} {files.fingerprint} {sections}'):016x}"


def train(folder: Path, run: Run, size: Size) -> Row:
    """Train a run from its first step to its last, and score it on its half of the held-out documents."""
    began = time.process_time()
    torch.set_num_threads(1)  # the same bits whatever the machine
    made = recipe(folder, run, size)
    files = index.load(made)
    model = _trained(made, files.open(shards.TRAIN, made))
    scored = held_out.half(made, files, run.seed)
    nats = total_loss(model, scored.stream, made.model.n_positions)
    lost = held_out.lost(made, scored)
    bits = nats / math.log(2) + lost.unknown
    return Row(
        run=run,
        causes=causes(made, files),
        bits_per_byte=bits / scored.bytes,
        charged=(bits + lost.white_space) / scored.bytes,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tokens=size.steps * made.training.global_batch * made.model.n_positions,
        seconds=round(time.process_time() - began, 1),
    )


def total_loss(model: torch.nn.Module, stream: TokenStream, length: int) -> float:
    """The summed loss in nats of every token but the first, as kit/release/evaluate.py has it.

    Infinite if it is not a number.
    """
    model.eval()
    last = len(stream) - 1
    starts = list(range(0, last - last % length, length))
    groups = [starts[i : i + _AT_ONCE] for i in range(0, len(starts), _AT_ONCE)]
    spans = [[(start, start + length + 1) for start in group] for group in groups]
    if last % length:
        spans.append([(last - last % length, last + 1)])
    total = 0.0
    with torch.no_grad():
        for group in spans:
            blocks = torch.stack([torch.from_numpy(stream.slice(*span)) for span in group])
            total += float(model(blocks)) * blocks[:, 1:].numel()
    return total if math.isfinite(total) else math.inf


def _trained(made: Recipe, stream: TokenStream) -> torch.nn.Module:
    training = made.training
    batches = training_batches(made, stream, rank=0, ranks=1)
    schedule = Schedule(training, (Segment(0, tokens.steps_over(made)),))
    torch.manual_seed(training.seed)
    model = LanguageModel(made, tokens.tokenizer_info(made))
    updater = optimizer.of(model, training)
    model.train()
    for step in range(schedule.end):
        for micro in range(batches.accumulation):
            first = batches.first_sample(step * batches.global_batch, micro)
            torch.manual_seed(text_hash(f"dropout.{batches.seed}.{first}") >> 1)  # as the loop
            loss: Tensor = model(torch.from_numpy(batches.read(step * batches.global_batch, micro)))
            (loss / batches.accumulation).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        for group in updater.param_groups:
            group["lr"] = schedule.rate(step)
        updater.step()
        updater.zero_grad()
    return model
