"""A fork: a new run that begins with another run's checkpoint, and goes its own way from there."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

from kit import amendments, recipes
from kit.cluster import submission
from kit.errors import CheckpointError, ConfigError, RunError
from kit.files import read_json, sync_directory, write_json
from kit.training import checkpoint
from kit.workspace import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kit.config import Cluster, Recipe
    from kit.training.checkpoint import Checkpoint


def begin(parent: Run, recipe: Recipe, cluster: Cluster, step: int, changes: Sequence[str]) -> Run:
    """Make the run `name=` of `changes` from the parent's checkpoint of a step: whole, or not at all.

    Nothing of the parent changes; files of its checkpoint are linked where the file system can, as
    nobody writes into them. Raises ConfigError, RunError, CheckpointError.
    """
    its = recipes.changed_recipe(recipe, changes)
    # A drill that the parent had is not the fork's.
    its_cluster = recipes.changed_cluster(
        cluster.model_copy(update={"preempt_at_step": None}), changes
    )
    other = amendments.differences(recipe, its)
    _refuse(other)
    run = Run(parent.root.with_name(its.name))
    if run.root.exists():
        raise RunError(f"{run.root}: is there already; give another name=")
    origin = _checkpoint(parent, step)
    staging = Run(run.root.with_name(f".fork-{uuid.uuid4().hex[:8]}"))
    try:
        submission.lay_out(staging, its, its_cluster)
        try:
            _link(origin.folder, staging.checkpoint(step, 0))
        except FileNotFoundError:
            raise CheckpointError(
                f"{origin.folder}: was removed by its run just now; fork a newer one"
            ) from None
        record = {
            "run": str(parent.root),
            "id": read_json(parent.identity)["id"],
            "step": step,
            "checkpoint": origin.folder.name,
            "changes": {key: {"old": old, "new": new} for key, (old, new) in other.items()},
            "time": time.time(),
        }
        write_json(staging.origin, record)
        staging.root.rename(run.root)
    except BaseException:
        shutil.rmtree(staging.root, ignore_errors=True)
        raise
    sync_directory(run.root.parent)
    return run


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
    made = checkpoint.committed(parent)
    found = next((one for one in made if one.step == step), None)
    if found is None:
        there = ", ".join(str(one) for one in sorted({one.step for one in made}))
        raise CheckpointError(
            f"--at {step}: {parent.root} has no checkpoint of that step; it has: {there or 'none'}"
        )
    if problem := found.problem():
        raise CheckpointError(f"{found.folder}: {problem}; fork another one")
    return found


def _link(folder: Path, copy: Path) -> None:
    """The same files once more, by hard links, or as copies where there are none."""
    for path in sorted(folder.rglob("*")):
        target = copy / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, target)
            with target.open("rb") as stream:
                os.fsync(stream.fileno())
    for made in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        sync_directory(made)
