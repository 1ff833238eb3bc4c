"""The training loop, from top to bottom.

A step is `accumulation` micro-batches on every rank and one update. Before each step stands what is
due at its boundary: validation, a checkpoint. Between micro-batches the ranks ask each other for
signals; when one has come, gradients of the unfinished step are dropped and the state of the last
full step is saved. Everything random is a function of the recipe's seed and the number of the
sample, so that an interruption leaves no trace.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from kit import shards, tokens
from kit.errors import CheckpointError
from kit.files import read_json, text_hash
from kit.tracking import ledger
from kit.tracking import mlflow
from kit.tracking.tensorboard import EventFile
from kit.training import checkpoint
from kit.training.batches import Batches, training_batches, validation_blocks
from kit.training.engine import Device, Engine, join
from kit.training.model import learning_rate, special_tokens

if TYPE_CHECKING:
    from pathlib import Path
    from signal import Signals

    from torch.distributed import ProcessGroup, Store

    from kit.config import Recipe
    from kit.training.attempt import Place
    from kit.training.interruption import Interruption
    from kit.workspace import Attempt, Run


def train(
    run: Run,
    recipe: Recipe,
    device: str,
    attempt: Attempt,
    place: Place,
    store: Store,
    interruption: Interruption,
) -> dict[str, Any]:
    """Train until the recipe's last step or a signal; returns the outcome, the same on all ranks.

    It has the keys outcome (done or interrupted), step, checkpoint, and after a signal its name.
    """
    data = tokens.complete(recipe)
    kind = tokens.dtype_for(recipe.tokenizer.vocab_size)
    train_row, held_out = (
        tokens.open_row([tokens.token_file(unit.folder, part) for unit in data], kind)
        for part in shards.PARTS
    )
    batches = training_batches(recipe, train_row, place.rank, place.ranks)
    held_out_blocks = validation_blocks(recipe, held_out)
    steps = recipe.training.steps_over(batches.blocks)

    where = Device(device, place.local_rank)
    control = join(where, store, place.rank, place.ranks)
    begin, end = special_tokens(recipe)
    engine = Engine(recipe, where, batches.accumulation, begin, end)
    start = read_json(attempt.start)
    facts = {"data": tokens.fingerprint(data), "samples": 0}
    if start["checkpoint"]:
        _resume(run.checkpoints / start["checkpoint"], engine, start, attempt.number, facts)
    step = saved = int(start["from_step"])

    def barrier() -> None:
        dist.barrier(group=control)

    book = _Book.open(run, recipe, attempt, start, engine, batches, steps) if place.rank == 0 else None
    signal: Signals | None = None
    while True:
        due = step % recipe.training.validate_every == 0 or step == steps
        if due and step > start["validated_step"]:
            loss, signal = _validate(
                engine, held_out, held_out_blocks, batches, interruption, control
            )
            if signal is None and book:
                book.add("validation", step=step, validation_loss=loss)
        stop = signal is not None or step == steps
        if step > saved and (stop or step % recipe.training.checkpoint_every == 0):
            if book:
                book.sync()
            began = time.monotonic()
            facts["samples"] = step * batches.global_batch
            checkpoint.save(
                run, attempt, engine, step, facts, place.rank, place.ranks, barrier
            )
            saved = step
            if book:
                book.add("checkpoint", step=step, seconds=time.monotonic() - began)
                checkpoint.prune(run, recipe.training.keep)
        if stop:
            break
        began = time.monotonic()
        engine.set_learning_rate(rate := learning_rate(recipe.training, step, steps))
        loss, signal = _step(engine, batches, step, interruption, control)
        if signal is not None:
            continue
        step += 1
        if book:
            book.step(step, loss, rate, engine, batches, time.monotonic() - began)
    outcome: dict[str, Any] = {"outcome": "done", "step": step, "saved_step": saved}
    if signal is not None:
        outcome |= {"outcome": "interrupted", "signal": signal.name}
    if book:
        book.close(outcome)
    return outcome


def _step(
    engine: Engine, batches: Batches, step: int, interruption: Interruption, control: ProcessGroup
) -> tuple[float, Signals | None]:
    """One step: its mean loss over all ranks; or, before the update, the signal that stopped it."""
    total = torch.zeros((), dtype=torch.float32)
    for micro in range(batches.accumulation):
        signal = interruption.agreed(control)
        if signal is not None:
            return 0.0, signal
        sample = batches.first_sample(step, micro)
        seed = text_hash(f"dropout.{batches.seed}.{sample}") >> 1
        blocks = torch.from_numpy(batches.read(step, micro))
        total += engine.micro_batch(blocks, seed).cpu()
    dist.all_reduce(total, group=control)
    return float(total) / (batches.accumulation * batches.ranks), None


def _validate(
    engine: Engine,
    row: tokens.TokenRow,
    blocks: int,
    batches: Batches,
    interruption: Interruption,
    control: ProcessGroup,
) -> tuple[float, Signals | None]:
    """The mean loss over the first `blocks` held-out blocks, dealt out to the ranks; or a signal."""
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, blocks, batches.ranks):
        signal = interruption.agreed(control)
        if signal is not None:
            return 0.0, signal
        # A rank without a block of its own repeats the last one, uncounted: ZeRO-3 needs all ranks.
        index = first + batches.rank
        block = row.block(min(index, blocks - 1), batches.length)
        loss = engine.validate(torch.from_numpy(block[None]))
        total += loss.cpu() if index < blocks else 0
    dist.all_reduce(total, group=control)
    return float(total) / blocks, None


def _resume(
    folder: Path, engine: Engine, start: dict[str, Any], attempt: int, facts: dict[str, Any]
) -> None:
    found = checkpoint.Checkpoint(folder, start["from_step"], attempt)
    if found.record["data"] != facts["data"]:
        raise CheckpointError(
            f"{folder}: was trained on other tokens than the workspace holds now; restore them, or "
            "begin a new run under another name"
        )
    found.load(engine)


@dataclass(frozen=True)
class _Book:
    """Rank 0's ledger and its views."""

    rows: ledger.Ledger
    events: EventFile | None
    publisher: mlflow.Publisher | None

    @classmethod
    def open(
        cls,
        run: Run,
        recipe: Recipe,
        attempt: Attempt,
        start: dict[str, Any],
        engine: Engine,
        batches: Batches,
        steps: int,
    ) -> _Book:
        rows = ledger.Ledger(attempt)
        rows.add(
            "attempt",
            step=start["from_step"],
            steps=steps,
            parameters=engine.parameters(),
            training_tokens=len(batches.row),
            ranks=batches.ranks,
            accumulation=batches.accumulation,
        )
        events = None
        if recipe.tracking.tensorboard:
            events = EventFile(run, attempt.number, start["from_step"], start["time"])
        publisher = None
        if recipe.tracking.mlflow is not None:
            publisher = mlflow.Publisher(run, recipe)
        return cls(rows, events, publisher)

    def add(self, kind: str, **fields: Any) -> None:
        row = self.rows.add(kind, **fields)
        if self.events:
            self.events.add(row)

    def step(
        self, step: int, loss: float, rate: float, engine: Engine, batches: Batches, seconds: float
    ) -> None:
        self.add(
            "step",
            step=step,
            loss=loss,
            learning_rate=rate,
            gradient_norm=engine.gradient_norm(),
            samples=step * batches.global_batch,
            seconds=seconds,
            tokens_per_second=batches.global_batch * batches.length / seconds,
        )

    def sync(self) -> None:
        self.rows.sync()

    def close(self, outcome: dict[str, Any]) -> None:
        self.add("end", **outcome)
        self.rows.close()
        if self.events:
            self.events.close()
        if self.publisher:
            # After a signal the grace time is short: what is left is published by the next attempt.
            done = outcome["outcome"] == "done"
            status = "FINISHED" if done else "SCHEDULED"
            self.publisher.close(status, patience=30.0 if done else 3.0)
