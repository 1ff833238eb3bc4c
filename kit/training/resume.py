"""Where an attempt sets out from: step 0, or the checkpoint that rank 0 chose."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.data import tokens
from kit.errors import CheckpointError
from kit.output import log
from kit.output.quantities import count
from kit.training import checkpoint
from kit.training.engine import Engine, convert
from kit.training.progress import Progress

if TYPE_CHECKING:
    from kit.store.records import Start
    from kit.training.checkpoint import Checkpoint
    from kit.training.context import Context


@dataclass(frozen=True)
class Origin:
    """The state that an attempt begins with."""

    engine: Engine
    progress: Progress
    saved: int | None  # the step of the newest checkpoint; None: step 0 is to be saved as well


def resume(context: Context, start: Start, accumulation: int, data: str) -> Origin:
    """Build the model, and load the checkpoint that `start.json` names.

    `data` is the fingerprint of the tokens: raises CheckpointError where it was trained on others.
    """
    recipe = context.recipe
    arguments = (recipe, context.device, accumulation, tokens.tokenizer_info(recipe))
    compiles = "; the first step builds the model's kernels" if recipe.training.compile else ""
    building = f"building the model and DeepSpeed's engine{compiles}"
    if start["checkpoint"] is None:
        log.info(building)
        # To roll back to, step 0 must be saved as well.
        saved = None if recipe.training.health.on_bad_step == "rollback" else 0
        return _validated(Origin(Engine(*arguments), Progress(), saved), start)
    found = checkpoint.named(context.run, start["checkpoint"])
    record = found.record
    if record["data"] != data:
        raise CheckpointError(
            f"{found.folder}: was trained on other tokens than the workspace holds now; restore "
            "them, or begin a new run under another name"
        )
    log.info(building)
    log.info(f"loading the checkpoint of {found.origin}")
    if record["ranks"] == context.collectives.ranks:
        engine = Engine(*arguments)
        engine.load(found.state, found.step)
    else:
        engine = _load_for_other_ranks(context, found, record["ranks"], arguments)
    log.info(f"resumes from {found.origin}")
    return _validated(Origin(engine, Progress.of(record), found.step), start)


def _validated(origin: Origin, start: Start) -> Origin:
    """With a validation that an earlier attempt did from there, before it died."""
    if start["validated"]:
        origin.progress.validated = origin.progress.step
    return origin


def _load_for_other_ranks(
    context: Context, found: Checkpoint, ranks: int, arguments: tuple[Any, ...]
) -> Engine:
    """An engine with the state of a checkpoint that another number of ranks saved."""
    collectives = context.collectives
    folder = context.run.universal(found.folder)  # DeepSpeed leaves a file beside what it makes
    universal = folder / checkpoint.STATE
    if collectives.rank == 0:
        log.info(
            f"{found.folder}: of {count(ranks, 'rank')}, goes on with {collectives.ranks}: the "
            "order of the data and the global batch stay, the last bits of sums do not"
        )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        convert(found.state, universal)
    collectives.barrier()
    engine = Engine(*arguments, universal=True)
    engine.load(universal, found.step)
    collectives.barrier()
    if collectives.rank == 0:
        shutil.rmtree(folder)
    return engine
