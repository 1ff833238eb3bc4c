"""Start of an attempt: from step 0, or from the checkpoint that rank 0 chose."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.data import tokens
from kit.errors import CheckpointError
from kit.output import log
from kit.output.quantities import count
from kit.training import checkpoint, exactness, loading
from kit.training.engine import Engine
from kit.training.progress import Progress
from kit.training.universal import convert

if TYPE_CHECKING:
    from kit.store.records import Start
    from kit.training.checkpoint import Checkpoint
    from kit.training.context import Context
    from kit.training.exactness import Exactness
    from kit.training.loading import Part


@dataclass(frozen=True)
class Origin:
    """The state that an attempt begins with."""

    engine: Engine
    progress: Progress
    saved: int | None  # the step of the newest checkpoint; None: step 0 must be saved as well
    start: Start  # of the attempt, which names another checkpoint if the first was damaged
    exactness: Exactness


def resume(context: Context, start: Start, accumulation: int, data: str) -> Origin:
    """Build the model, and load the checkpoint named in `start.json`, or the first before it that is whole.

    `data` is the fingerprint of the tokens. Raises CheckpointError if it was trained on others, or if every
    checkpoint is damaged.
    """
    start, part = loading.begin(context.run, context.attempt, start, context.collectives)
    origin = _origin(context, start, part, accumulation, data)
    origin.engine.reserve()
    return origin


def _origin(
    context: Context, start: Start, part: Part | None, accumulation: int, data: str
) -> Origin:
    recipe = context.recipe
    arguments = (recipe, context.device, accumulation, tokens.tokenizer_info(recipe))
    compiles = "; the first step compiles the model" if recipe.training.compile else ""
    building = f"building the model and DeepSpeed's engine{compiles}"
    if part is None:
        log.info(building)
        # A rollback may go back to step 0, so it must be saved as well.
        saved = None if recipe.training.health.on_bad_step == "rollback" else 0
        engine = Engine(*arguments)
        exact = exactness.of_attempt(context, start, None)
        return _with_validation(Origin(engine, Progress(), saved, start, exact))
    newest = part.checkpoint
    record = newest.record
    if record["data"] != data:
        raise CheckpointError(
            f"{newest.folder}: trained on other tokens than the workspace now has; restore them, or "
            "start a new run with another name="
        )
    log.info(building)
    log.info(f"loading the checkpoint of {newest.origin}")
    _tell_of_other_ranks(context, newest, record["ranks"])
    if part.files:
        engine = Engine(*arguments, to_load=True)
        engine.load(newest.state, newest.step, part.files)
    else:
        engine = _converted(context, newest, arguments)
    log.info(f"resumes from {newest.origin}")
    exact = exactness.of_attempt(context, start, record)
    progress = Progress.from_record(record)
    return _with_validation(Origin(engine, progress, newest.step, start, exact))


def _with_validation(origin: Origin) -> Origin:
    """Mark the validation that an earlier attempt did at this step before it died."""
    if origin.start["validated"]:
        origin.progress.validated = origin.progress.step
    return origin


def _tell_of_other_ranks(context: Context, saved: Checkpoint, ranks: int) -> None:
    collectives = context.collectives
    if collectives.rank == 0 and ranks != collectives.world_size:
        log.info(
            f"{saved.folder}: saved by {count(ranks, 'rank')}, resumed on {collectives.world_size}: data "
            "order and global batch stay the same, the last bits of sums do not"
        )


def _converted(context: Context, saved: Checkpoint, arguments: tuple[Any, ...]) -> Engine:
    """An engine with the state of a checkpoint whose parts are those of another number of ranks."""
    collectives = context.collectives
    folder = context.run.universal(saved.folder)  # DeepSpeed leaves a file beside its output
    universal = folder / checkpoint.STATE
    if collectives.rank == 0:
        saved.ensure_own()  # all ranks have checked its hashes
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        convert(saved.state, universal)
    collectives.barrier()
    engine = Engine(*arguments, universal=True)
    engine.load(universal, saved.step)
    collectives.barrier()
    if collectives.rank == 0:
        shutil.rmtree(folder)
    return engine
