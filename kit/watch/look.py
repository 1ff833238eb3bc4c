"""One look at a run: the view that detectors have of its files, its job and its disk.

found(look(project, seen, past, job, now))
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
from typing import TYPE_CHECKING

import numpy as np

from kit.output import program
from kit.store.files import read_json
from kit.watch.observed import RECENT, AttemptSeen, Disk, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.snapshot import Snapshot
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.tracking.columns import Floats
    from kit.tracking.rows import CheckpointRow
    from kit.watch.history import AttemptTimes, History
    from kit.watch.observed import WatchedJob

_ATTEMPTS = 20  # the last ones, which a view holds
_SAVES = 20


def look(
    project: Project,
    seen: Snapshot,
    past: History,
    job: WatchedJob,
    now: float,
    *,
    left: int | None = None,
    new: int = 10,
) -> View:
    """The view of a moment; `left` steps are to be done, the last `new` were not seen before."""
    recipe, steps = project.recipe, seen.steps
    saves = _saves(seen)
    return View(
        run=shlex.quote(str(seen.run.root)),
        now=now,
        job=job,
        ended=program.respelled(seen.stopped) if seen.stopped and left != 0 else None,
        steps=seen.recent[-max(RECENT, new + RECENT // 2) :],
        new=new,
        usual_rate=_median(steps.rate),
        usual_seconds=past.seconds,
        best_loss=_best(steps.loss[~np.isnan(steps.loss)]),
        attempts=[
            _attempt(one, node) for one, node in zip(past.attempts, _nodes(seen), strict=True)
        ][-_ATTEMPTS:],
        decisions=[row for row in seen.decisions if row["name"] == "train"][-_ATTEMPTS:],
        saved=[(row["time"], row["step"]) for row in saves[-_SAVES:]],
        save_failed=_save_failed(seen),
        interval=_interval(recipe, past),
        longest=_longest(past),
        start_seconds=recipe.training.health.start_seconds,
        failures_allowed=project.cluster.training.failures,
        disk=_disk(seen, recipe, saves, left),
        skew=_skew(seen) if job.state == "running" else None,
        mlflow_behind=_mlflow_behind(seen, recipe, now),
    )


def _saves(seen: Snapshot) -> list[CheckpointRow]:
    """The rows of the checkpoints that were committed, in order."""
    return [row for one in seen.begun for row in one.rows.events if row["kind"] == "checkpoint"]


def _save_failed(seen: Snapshot) -> tuple[float, str] | None:
    failed = [
        (row["time"], row["reason"])
        for one in seen.begun[-1:]
        for row in one.rows.events
        if row["kind"] == "save_failed"
    ]
    return failed[-1] if failed else None


def _nodes(seen: Snapshot) -> list[str]:
    return [one.start.get("node", "?") for one in seen.begun if one.start is not None]


def _attempt(one: AttemptTimes, node: str) -> AttemptSeen:
    any_step = len(one.seconds) > 0
    return AttemptSeen(
        one.number,
        node,
        one.start,
        one.from_step,
        float(np.median(one.seconds)) if any_step else None,
        float(one.ended[0]) if any_step else None,
    )


def _median(values: Floats) -> float | None:
    """The median of the values that are known."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _best(losses: Floats) -> float | None:
    """The lowest median over RECENT steps that follow one another."""
    blocks = len(losses) // RECENT
    if blocks == 0:
        return None
    table = losses[: blocks * RECENT].reshape(blocks, RECENT)
    return float(np.median(table, axis=1).min())


def _interval(recipe: Recipe, past: History) -> float | None:
    """Seconds between two checkpoints: as the recipe has it, or the median so far."""
    every = recipe.training.checkpoint_every
    if every is not None:
        return every * past.seconds if past.seconds else None
    gaps = [float(gap) for one in past.attempts for gap in np.diff(one.saves[:, 0])]
    return statistics.median(gaps) if len(gaps) > 1 else None


def _longest(past: History) -> float:
    seconds = [one.saves[:, 1] for one in past.attempts]
    seconds += [one.validations[:, 1] for one in past.attempts]
    return max((float(some.max()) for some in seconds if len(some)), default=0.0)


def _disk(
    seen: Snapshot, recipe: Recipe, saves: Sequence[CheckpointRow], left: int | None
) -> Disk | None:
    """Free space, and that of the checkpoints and ledger rows to come; None before any checkpoint."""
    root = seen.run.root
    if not saves or not root.is_dir():
        return None
    status, training, ahead = os.statvfs(root), recipe.training, left or 0
    more = ahead // training.keep_every if training.keep_every else 0
    # One more is on disk while it is written.
    more += max(0, training.keep - len(seen.checkpoints)) + 1 if ahead else 0
    folders = [*seen.run.committed_checkpoints()]
    files = sum(1 for _ in folders[0].rglob("*")) if folders else 0
    return Disk(
        shutil.disk_usage(root).free,
        more * max(row["bytes"] for row in saves) + ahead * _bytes_a_step(seen),
        status.f_favail if status.f_files else None,
        more * files,
    )


def _bytes_a_step(seen: Snapshot) -> int:
    """Of the ledger."""
    ledgers = [one.ledger for one in seen.run.claimed_attempts() if one.ledger.is_file()]
    return sum(path.stat().st_size for path in ledgers) // max(1, len(seen.steps))


def _skew(seen: Snapshot) -> float | None:
    """By how much the clock of rank 0's node is ahead: the time of its last row against the file's."""
    last = seen.begun[-1] if seen.begun else None
    times = (
        [*last.rows.steps.time[-1:], *(row["time"] for row in last.rows.events[-1:])]
        if last
        else []
    )
    if last is None or not times:
        return None
    return float(max(times)) - seen.run.attempt(last.number).ledger.stat().st_mtime


def _mlflow_behind(seen: Snapshot, recipe: Recipe, now: float) -> float | None:
    """Seconds since the first row that MLflow lacks; 0 if it lacks none."""
    cursor = seen.run.mlflow_cursor
    if recipe.tracking.mlflow is None or not len(seen.steps):
        return None
    sent = read_json(cursor).get("sent", {}).get("step", -1) if cursor.is_file() else -1
    first = int(np.searchsorted(seen.steps.step, sent, side="right"))
    return now - float(seen.steps.time[first]) if first < len(seen.steps) else 0.0
