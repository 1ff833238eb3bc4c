"""The training loop, from top to bottom.

A step is `accumulation` micro-batches on every rank and one update. Before each step stands what is
due at its boundary: validation, a checkpoint. Between micro-batches the ranks ask each other for
signals; when one has come, gradients of the unfinished step are dropped and the state of the last
full step is saved. Everything random is a function of the recipe's seed and the number of the
sample, so that an interruption leaves no trace.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from kit import shards, tokens
from kit.errors import CheckpointError
from kit.files import read_json, text_hash
from kit.training import checkpoint
from kit.training.batches import Batches, training_batches, validation_blocks
from kit.training.book import Book
from kit.training.engine import Device, Engine
from kit.training.model import learning_rate, special_tokens

if TYPE_CHECKING:
    from signal import Signals

    from kit.config import Recipe
    from kit.training.team import Team
    from kit.workspace import Attempt, Run


def train(  # noqa: PLR0915  one loop, read from top to bottom
    run: Run, recipe: Recipe, attempt: Attempt, device: Device, team: Team
) -> dict[str, Any]:
    """Train until the recipe's last step or a signal; returns the outcome, the same on all ranks.

    It has the keys outcome (done or interrupted), step, and after a signal its name.
    """
    training = recipe.training
    start = read_json(attempt.start)
    data = tokens.complete(recipe)
    train_row, held_out = (tokens.open_part(data, part, recipe) for part in shards.PARTS)
    batches = training_batches(recipe, train_row, team.rank, team.ranks)
    held_out_blocks = validation_blocks(recipe, held_out)
    steps = training.steps_over(batches.blocks)
    engine = Engine(recipe, device, batches.accumulation, *special_tokens(recipe))
    fingerprint = tokens.fingerprint(data)
    if start["checkpoint"]:
        _resume(run, start, engine, fingerprint)
    book = Book(run, recipe, attempt, start, batches) if team.rank == 0 else None
    if book:
        book.begin(steps, engine.parameters())

    step = saved = int(start["from_step"])

    def save() -> None:
        nonlocal saved
        if step == saved:
            return
        if book:
            book.sync()  # a checkpoint stands on the rows before it
        began = time.monotonic()
        facts = {"data": fingerprint, "samples": step * batches.global_batch}
        checkpoint.save(run, attempt, engine, step, facts, team)
        saved = step
        if book:
            book.add("checkpoint", step=step, seconds=time.monotonic() - began)
            checkpoint.prune(run, training.keep, attempt)

    signal: Signals | None = None
    while signal is None:
        if (step % training.validate_every == 0 or step == steps) and step > start[
            "validated_step"
        ]:
            loss, signal = _validate(engine, held_out, held_out_blocks, batches, team)
            if signal is not None:
                break
            if book:
                book.add("validation", step=step, validation_loss=loss)
        if training.checkpoint_every and step % training.checkpoint_every == 0:
            save()
        if step == steps:
            break
        began = time.monotonic()
        rate = learning_rate(training, step, steps)
        engine.set_learning_rate(rate)
        loss, signal = _step(engine, batches, step, team)
        if signal is None:
            step += 1
            if book:
                seconds = time.monotonic() - began
                book.step(step, loss, rate, engine.gradient_norm(), seconds)
    save()

    outcome: dict[str, Any] = {"outcome": "done", "step": step}
    if signal is not None:
        outcome = {"outcome": "interrupted", "step": step, "signal": signal.name}
    if book:
        book.close(outcome)
    return outcome


def _step(engine: Engine, batches: Batches, step: int, team: Team) -> tuple[float, Signals | None]:
    """One step: its mean loss over all ranks; or, before the update, the signal that stopped it."""
    total = torch.zeros((), dtype=torch.float32)
    for micro in range(batches.accumulation):
        if (signal := team.signal()) is not None:
            return 0.0, signal
        sample = batches.first_sample(step, micro)
        seed = text_hash(f"dropout.{batches.seed}.{sample}") >> 1
        blocks = torch.from_numpy(batches.read(step, micro))
        total += engine.micro_batch(blocks, seed).cpu()
    return team.sum(total) / (batches.accumulation * batches.ranks), None


def _validate(
    engine: Engine, row: tokens.TokenRow, blocks: int, batches: Batches, team: Team
) -> tuple[float, Signals | None]:
    """The mean loss over the first `blocks` held-out blocks, dealt out to the ranks; or a signal."""
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, blocks, batches.ranks):
        if (signal := team.signal()) is not None:
            return 0.0, signal
        # A rank without a block of its own repeats the last one, uncounted: ZeRO-3 needs all ranks.
        index = first + batches.rank
        block = row.block(min(index, blocks - 1), batches.length)
        loss = engine.validate(torch.from_numpy(block[None]))
        total += loss.cpu() if index < blocks else 0
    return team.sum(total) / blocks, None


def _resume(run: Run, start: dict[str, Any], engine: Engine, fingerprint: str) -> None:
    """Load the checkpoint that rank 0 chose. Raises CheckpointError where the tokens are others."""
    found = checkpoint.Checkpoint(run.checkpoints / start["checkpoint"], start["from_step"], 0)
    if found.record["data"] != fingerprint:
        raise CheckpointError(
            f"{found.folder}: was trained on other tokens than the workspace holds now; restore them, "
            "or begin a new run under another name"
        )
    found.load(engine)
