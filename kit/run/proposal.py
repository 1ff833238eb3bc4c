"""What an amendment would make of a run that has begun, and why it may not be."""

from __future__ import annotations

import shlex
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
    is_of,
)
from kit.config.load import changed_cluster, changed_recipe
from kit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.store.paths import Run


@dataclass(frozen=True)
class Proposal:
    """What a run is to become, and the rows that say so; no rows where it is so already."""

    recipe: Recipe
    cluster: Cluster
    rows: list[Amendment]


def propose(project: Project, changes: Sequence[str], schedule: str | None = None) -> Proposal:
    """What `key=value ...` make of a run. Raises ConfigError where one may not be; writes nothing.

    `schedule`: CONTINUE, which None is too, or ANEW.
    """
    run, recipe, cluster = project.run, project.recipe, project.cluster
    after = (changed_recipe(recipe, changes), changed_cluster(cluster, changes))
    now = time.time()
    rows: list[Amendment] = []
    for key, (old, new) in differences(recipe, after[0]).items():
        rows.append({"time": now, "key": key, "old": old, "new": new})
        if key in END:
            rows[-1]["schedule"] = schedule or CONTINUE
    rows += [
        {"time": now, "key": f"{CLUSTER}{key}", "old": old, "new": new, "cluster": cluster.name}
        for key, (old, new) in differences(cluster, after[1]).items()
    ]
    if schedule == ANEW and not any(row["key"] in END for row in rows):
        rows += [_once_more(recipe, key, now) for key in END if _names(changes, key)]
    for row in rows:
        _refuse_key(run, row["key"], row["new"])
    _refuse_uneven_ranks(*after)
    if any(row["key"] in END for row in rows):
        _refuse_past_end(run, after[0])
    elif schedule is not None:
        raise ConfigError(
            f"--schedule {schedule}: the run's end is not amended; give training.steps or "
            "training.epochs with it"
        )
    return Proposal(*after, rows)


def _names(changes: Sequence[str], key: str) -> bool:
    return any(change.partition("=")[0] == key for change in changes)


def _once_more(recipe: Recipe, key: str, now: float) -> Amendment:
    """The end that the run has already, now with the schedule of that from step 0."""
    value = getattr(recipe.training, key.removeprefix("training."))
    return {"time": now, "key": key, "old": value, "new": value, "schedule": ANEW}


def _refuse_key(run: Run, key: str, new: Any) -> None:
    if key in OF_SUBMISSION:
        raise ConfigError(f"{key}: is not amended; submit the run with another --cluster")
    if is_of(key, MAY_CHANGE):
        return
    allowed = ", ".join(f"{name}*" if name.endswith(".") else name for name in MAY_CHANGE)
    if is_of(key, BOUND):
        way = "for this key begin a run of another name= and workspace=, from step 0"
    else:
        change = [] if key == "name" else [f"{key}={new}"]
        fork = ["fork", str(run.root), "--at", "STEP", "name=NEW", *change]
        way = f"the rest is for a new run: python -m jobs.train {shlex.join(fork)}"
    raise ConfigError(f"{key}: is not to be changed in mid-run; what may: {allowed}; {way}")


def _refuse_uneven_ranks(recipe: Recipe, cluster: Cluster) -> None:
    training, ranks = recipe.training, cluster.training.ranks
    if training.global_batch % (training.micro_batch * ranks):
        raise ConfigError(
            f"cluster.training: {ranks} ranks cannot share training.global_batch="
            f"{training.global_batch} in micro-batches of {training.micro_batch}; give another number of "
            "them, or another training.micro_batch"
        )


def _refuse_past_end(run: Run, recipe: Recipe) -> None:
    from kit.data import tokens

    made = run.committed_checkpoints().values()
    _, newest = max(((attempt, step) for step, attempt in made), default=(0, 0))
    if newest and (end := tokens.steps_over(recipe)) < newest:
        key = "epochs" if recipe.training.steps is None else "steps"
        raise ConfigError(
            f"training.{key}={getattr(recipe.training, key)}: the run would end at step {end}, and its "
            f"newest checkpoint is of step {newest}; give at least that, or fork an earlier checkpoint"
        )
