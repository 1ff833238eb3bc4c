"""Fork a run: start a new run from a checkpoint of another one, with different settings."""

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
from kit.relay import trainable
from kit.run import directory, micro_batch
from kit.store.files import read_json, sync_directory, write_json
from kit.store.paths import Run
from kit.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from kit.training.checkpoint import Checkpoint

# Keys that shape the learning rate, and so contradict `decay`.
_SET_BY_DECAY = (
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
    """Create the run named by `name=` in `changes` from the project's checkpoint of a step, atomically.

    With `decay`, the learning rate decays from its present value over that number of steps, and the run
    ends there. Otherwise `how` is `CONTINUE` or `ANEW` of kit/config/amendments.py, or None: as the changes
    ask. The parent does not change; files of its checkpoint are hard-linked if the file system can, since
    nothing writes into them. Raises ConfigError, RunError, CheckpointError.
    """
    parent, recipe = project.run, project.recipe
    if decay is not None:
        changes = [*changes, *_branch(changes, step, decay, how)]
    fork_recipe = changed_recipe(recipe, changes)
    # A drill of the parent's does not carry over.
    fork_cluster = changed_cluster(
        project.cluster.model_copy(update={"preempt_at_step": None}), changes
    )
    fork_recipe = micro_batch.changed(recipe, Project(parent, fork_recipe, fork_cluster))
    differences = amendments.differences(recipe, fork_recipe)
    _refuse(differences)
    # What the parent was trained with stays as it is.
    inherited = "training.deepspeed" not in differences
    trainable.check(fork_recipe, fork_cluster, begun=inherited)
    schedule.check(fork_recipe.training)
    run = Run(parent.root.with_name(fork_recipe.name))
    if run.root.exists():
        raise RunError(f"{run.root}: exists already; give another name=")
    origin = _checkpoint(parent, step)
    rates = _schedule(parent, recipe, fork_recipe, step, decay, how)
    staging = Run(run.root.with_name(f".fork-{uuid.uuid4().hex[:8]}"))
    try:
        directory.lay_out(Project(staging, fork_recipe, fork_cluster))
        checkpoint.link(origin, staging.checkpoint(step, 0))
        record = {
            "run": parent.root.name,
            "id": read_json(parent.identity)["id"],
            "step": step,
            "checkpoint": origin.folder.name,
            "changes": {key: {"old": old, "new": new} for key, (old, new) in differences.items()},
            "time": time.time(),
        } | rates
        write_json(staging.origin, record)
        staging.root.rename(run.root)
    except BaseException:
        shutil.rmtree(staging.root, ignore_errors=True)
        raise
    sync_directory(run.root.parent)
    return run


def _branch(changes: Sequence[str], step: int, decay: int, how: str | None) -> list[str]:
    """The overrides of a branch that decays. Raises ConfigError if another one contradicts them."""
    if step == 0:
        raise ConfigError(f"--decay {decay}: at step 0 there is no learning rate to decay from")
    keys = [change.partition("=")[0] for change in changes]
    conflicts = [key for key in keys if key in _SET_BY_DECAY]
    conflicts += [f"--schedule {how}"] if how else []
    if conflicts:
        raise ConfigError(
            f"--decay {decay}: the learning rate decays from its value at step {step} to its minimum at "
            f"step {step + decay}; remove {', '.join(conflicts)}, or fork without --decay"
        )
    return [f"training.steps={step + decay}", "training.decay=wsd", "training.decay_share=1"]


def _schedule(
    parent: Run, recipe: Recipe, fork_recipe: Recipe, step: int, decay: int | None, how: str | None
) -> dict[str, Any]:
    """The segments of the fork's learning rate, for its record; empty if its recipe is enough."""
    rows = amendments.read(parent)
    # Amendments that no attempt of the parent has seen apply to the fork from its first step.
    attempts = [*schedule.starts(parent), schedule.AttemptStart(step, len(rows))]
    ends, first = tokens.ends(recipe), schedule.origin(parent)
    old = schedule.derive(recipe.training, rows, attempts, ends, first)
    if decay is not None:
        new = old.decayed(step, decay)
    else:
        end = tokens.steps_over(fork_recipe)
        new = schedule.forked(old, fork_recipe.training, step, end, how)
    if new.is_spent:
        raise ConfigError(
            f"--at {step}: {schedule.SPENT.format(step=step)}; fork an earlier checkpoint, or let the "
            "learning rate jump with `--schedule anew`"
        )
    return {} if new.is_whole else {"schedule": schedule.record(new)}


def _refuse(changes: dict[str, tuple[Any, Any]]) -> None:
    if "name" not in changes:
        raise ConfigError("fork: give the new run a name=")
    for key, (old, new) in changes.items():
        zero = key == "training.deepspeed" and _stage(old) != _stage(new)
        if amendments.is_in(key, amendments.BOUND) or zero:
            names = ", ".join(
                f"{name}*" if name.endswith(".") else name for name in amendments.BOUND
            )
            raise ConfigError(
                f"{key}: cannot change in a fork, nor can {names} and ZeRO's stage: the checkpoint depends "
                "on them; start a new run instead"
            )


def _stage(deepspeed: dict[str, Any]) -> Any:
    """The stage of ZeRO, which decides the contents of a rank's files."""
    return deepspeed.get("zero_optimization", {}).get("stage")


def _checkpoint(parent: Run, step: int) -> Checkpoint:
    """The parent's checkpoint of a step, verified."""
    origin = checkpoint.of_step(parent, step, "--at")
    if problem := origin.problem():
        raise CheckpointError(f"{origin.folder}: {problem}; fork another one")
    return origin
