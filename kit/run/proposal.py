"""Proposed amendments of a run in progress: the result, or the reason why they are not allowed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.config.amendments import (
    ANEW,
    BOUND,
    CLUSTER,
    CONTINUE,
    END,
    MAY_CHANGE,
    OF_SUBMISSION,
    Amendment,
    differences,
    is_in,
)
from kit.config.load import changed_cluster, changed_recipe
from kit.config.run import Project
from kit.errors import ConfigError
from kit.output import program
from kit.plan.micro_batch import with_micro_batch
from kit.run import micro_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Run


_MICRO_BATCH, _REASON = "training.micro_batch", "training.micro_batch_reason"


@dataclass(frozen=True)
class Proposal:
    """The run after an amendment, and the rows to record; no rows if nothing changes."""

    recipe: Recipe
    cluster: Cluster
    rows: list[Amendment]


def propose(project: Project, changes: Sequence[str], schedule: str | None = None) -> Proposal:
    """Apply changes `key=value` to a run. Raises ConfigError if one is not allowed; writes nothing.

    `schedule` is `CONTINUE` (also if None) or `ANEW`.
    """
    run, recipe, cluster = project.run, project.recipe, project.cluster
    changed = Project(run, changed_recipe(recipe, changes), changed_cluster(cluster, changes))
    resolved, reason = _resolved(recipe, changed)
    after = (resolved, changed.cluster)
    now = time.time()
    rows: list[Amendment] = []
    for key, (old, new) in differences(recipe, after[0]).items():
        if key == _REASON:
            continue
        rows.append({"time": now, "key": key, "old": old, "new": new})
        if key in END:
            rows[-1]["schedule"] = schedule or CONTINUE
        if key == _MICRO_BATCH and reason is not None:
            rows[-1]["reason"] = reason
    rows += [
        {"time": now, "key": f"{CLUSTER}{key}", "old": old, "new": new, "cluster": cluster.name}
        for key, (old, new) in differences(cluster, after[1]).items()
    ]
    if schedule == ANEW and not any(row["key"] in END for row in rows):
        rows += [_same_end(recipe, key, now) for key in END if _names(changes, key)]
    for row in rows:
        _refuse_key(run, row["key"], row["new"])
    _refuse_uneven_ranks(*after)
    if any(row["key"] in END for row in rows):
        _refuse_past_end(run, after[0])
    elif schedule is not None:
        raise ConfigError(
            f"--schedule {schedule}: needs a change of the run's end; add training.steps= or "
            "training.epochs="
        )
    return Proposal(*after, rows)


def _resolved(before: Recipe, changed: Project) -> tuple[Recipe, str | None]:
    """The changed recipe without `auto`, and the reason for its micro-batch.

    The reason goes to the record of amendments only: the run's code may be older than the key for it.
    """
    recipe = micro_batch.changed(before, changed)
    number, old = recipe.training.micro_batch_size, before.training
    kept = old.micro_batch_reason if number == old.micro_batch else None
    return with_micro_batch(recipe, number, kept), recipe.training.micro_batch_reason


def _names(changes: Sequence[str], key: str) -> bool:
    return any(change.partition("=")[0] == key for change in changes)


def _same_end(recipe: Recipe, key: str, now: float) -> Amendment:
    """The end that the run already has, with its schedule recomputed from step 0."""
    value = getattr(recipe.training, key.removeprefix("training."))
    return {"time": now, "key": key, "old": value, "new": value, "schedule": ANEW}


def _refuse_key(run: Run, key: str, new: Any) -> None:
    if key in OF_SUBMISSION:
        raise ConfigError(
            f"{key}: cannot be amended; submit the run again with another --cluster instead"
        )
    if is_in(key, MAY_CHANGE):
        return
    allowed = ", ".join(f"{name}*" if name.endswith(".") else name for name in MAY_CHANGE)
    if is_in(key, BOUND):
        way = "to change this key, start a new run with another name= and workspace="
    else:
        change = [] if key == "name" else [f"{key}={new}"]
        fork = program.command("train", "fork", run.root, "--at", "STEP", "name=NEW", *change)
        way = f"for any other key fork the run: {fork}"
    raise ConfigError(f"{key}: cannot be changed during a run; allowed: {allowed}; {way}")


def _refuse_uneven_ranks(recipe: Recipe, cluster: Cluster) -> None:
    training, ranks = recipe.training, cluster.training.ranks
    if training.global_batch % (training.micro_batch_size * ranks):
        raise ConfigError(
            f"cluster.training: {ranks} ranks cannot share training.global_batch="
            f"{training.global_batch} in micro-batches of {training.micro_batch}; change the number of "
            "ranks, or training.micro_batch"
        )


def _refuse_past_end(run: Run, recipe: Recipe) -> None:
    from kit.data import tokens

    checkpoints = run.committed_checkpoints().values()
    _, newest = max(((attempt, step) for step, attempt in checkpoints), default=(0, 0))
    if newest and (end := tokens.steps_over(recipe)) < newest:
        key = "epochs" if recipe.training.steps is None else "steps"
        raise ConfigError(
            f"training.{key}={getattr(recipe.training, key)}: the run would end at step {end}, but its "
            f"newest checkpoint is of step {newest}; choose a later end, or fork an earlier checkpoint"
        )
