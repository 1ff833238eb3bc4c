"""A fork: a new run that begins with another run's checkpoint, and goes its own way from there."""

from __future__ import annotations

import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

from kit.config import amendments
from kit.config.load import changed_cluster, changed_recipe
from kit.config.run import Project
from kit.data import tokens
from kit.errors import CheckpointError, ConfigError, RunError
from kit.plan import schedule
from kit.run import directory
from kit.store.files import read_json, sync_directory, write_json
from kit.store.paths import Run
from kit.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from kit.training.checkpoint import Checkpoint

# What says how the learning rate goes, which `decay` says too.
_OF_A_BRANCH = (
    "training.steps", "training.epochs", "training.learning_rate", "training.warmup_steps",
    "training.decay", "training.decay_share",
)  # fmt: skip


def begin(
    project: Project,
    step: int,
    changes: Sequence[str],
    decay: int | None = None,
    how: str | None = None,
) -> Run:
    """Make the run `name=` of `changes` from the project's checkpoint of a step: whole, or not at all.

    With `decay` the learning rate comes down over so many steps from where it is, and the run ends. `how`
    it goes on otherwise: CONTINUE or ANEW of kit/config/amendments.py; None: as the changes ask.
    Nothing of the parent changes; files of its checkpoint are linked where the file system can, as
    nobody writes into them. Raises ConfigError, RunError, CheckpointError.
    """
    parent, recipe = project.run, project.recipe
    if decay is not None:
        changes = [*changes, *_branch(changes, step, decay, how)]
    its = changed_recipe(recipe, changes)
    # A drill that the parent had is not the fork's.
    its_cluster = changed_cluster(
        project.cluster.model_copy(update={"preempt_at_step": None}), changes
    )
    other = amendments.differences(recipe, its)
    _refuse(other)
    run = Run(parent.root.with_name(its.name))
    if run.root.exists():
        raise RunError(f"{run.root}: is there already; give another name=")
    origin = _checkpoint(parent, step)
    pieces = _schedule(parent, recipe, its, step, decay, how)
    staging = Run(run.root.with_name(f".fork-{uuid.uuid4().hex[:8]}"))
    try:
        directory.lay_out(Project(staging, its, its_cluster))
        checkpoint.link(origin, staging.checkpoint(step, 0))
        record = {
            "run": parent.root.name,
            "id": read_json(parent.identity)["id"],
            "step": step,
            "checkpoint": origin.folder.name,
            "changes": {key: {"old": old, "new": new} for key, (old, new) in other.items()},
            "time": time.time(),
        } | pieces
        write_json(staging.origin, record)
        staging.root.rename(run.root)
    except BaseException:
        shutil.rmtree(staging.root, ignore_errors=True)
        raise
    sync_directory(run.root.parent)
    return run


def _branch(changes: Sequence[str], step: int, decay: int, how: str | None) -> list[str]:
    """The changes that make a decayed branch. Raises ConfigError where something contradicts it."""
    if step == 0:
        raise ConfigError(f"--decay {decay}: at step 0 there is no learning rate to decay from")
    given = [change.partition("=")[0] for change in changes]
    other = [key for key in given if key in _OF_A_BRANCH] + ([f"--schedule {how}"] if how else [])
    if other:
        raise ConfigError(
            f"--decay {decay}: the learning rate goes from where it is at step {step} to its minimum at "
            f"step {step + decay}; leave {', '.join(other)} out, or fork without --decay"
        )
    return [f"training.steps={step + decay}", "training.decay=wsd", "training.decay_share=1"]


def _schedule(
    parent: Run, recipe: Recipe, its: Recipe, step: int, decay: int | None, how: str | None
) -> dict[str, Any]:
    """The pieces of the fork's learning rate, for its record; none where its recipe says it all."""
    rows = amendments.recorded(parent)
    # What no attempt of the parent knows yet is the fork's from its first step on.
    attempts = [*schedule.starts(parent), schedule.AttemptStart(step, len(rows))]
    ends, first = tokens.ends(recipe), schedule.origin(parent)
    old = schedule.derive(recipe.training, rows, attempts, ends, first)
    if decay is not None:
        new = old.decayed(step, decay)
    else:
        new = schedule.forked(old, its.training, step, tokens.steps_over(its), how)
    if new.is_spent:
        raise ConfigError(
            f"--at {step}: {schedule.SPENT.format(step=step)}; fork an earlier checkpoint, or give "
            "--schedule anew, which lets it jump"
        )
    return {} if new.is_whole else {"schedule": schedule.record(new)}


def _refuse(changes: dict[str, tuple[Any, Any]]) -> None:
    if "name" not in changes:
        raise ConfigError("fork: give the new run a name=")
    for key, (old, new) in changes.items():
        zero = key == "training.deepspeed" and _stage(old) != _stage(new)
        if amendments.is_of(key, amendments.BOUND) or zero:
            names = ", ".join(
                f"{name}*" if name.endswith(".") else name for name in amendments.BOUND
            )
            raise ConfigError(
                f"{key}: stays as it is in a fork, as do {names} and ZeRO's stage: the checkpoint was made "
                "with them; begin a run of its own"
            )


def _stage(deepspeed: dict[str, Any]) -> Any:
    """The stage of ZeRO, which decides what a rank's files hold."""
    return deepspeed.get("zero_optimization", {}).get("stage")


def _checkpoint(parent: Run, step: int) -> Checkpoint:
    """The parent's checkpoint of a step, read and verified."""
    found = checkpoint.of_step(parent, step, "--at")
    if problem := found.problem():
        raise CheckpointError(f"{found.folder}: {problem}; fork another one")
    return found
