"""The state of a run for one look: everything that `watch` shows, as plain values.

    shown = facts(project, chain, snapshot(run), now)

`chain` is the state of each stage by name, as kit/relay/status.py gives it. kit/watch/text.py makes text
of it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kit.output import program
from kit.store.paths import Workspace
from kit.tracking import event_files
from kit.watch import guard_state, planned
from kit.watch.arrival import Planned, arrival
from kit.watch.detectors import found
from kit.watch.goodput import HOUR, goodput
from kit.watch.history import history
from kit.watch.look import look
from kit.watch.observed import WatchedJob
from kit.watch.pace import WEEK, pace
from kit.watch.trend import trend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.cluster.snapshot import Snapshot
    from kit.config.run import Project
    from kit.store.paths import Run
    from kit.tracking.columns import StepColumns
    from kit.tracking.rows import StepRow
    from kit.watch.history import AttemptTimes, History

Facts = dict[str, Any]
Chain = Mapping[str, Facts]

_TRAIN = "train"
_RESTART = 1800.0  # seconds that an interruption costs on a cluster, as long as none has been seen
_NEW, _MOST_NEW = 10, 900  # steps
_ALIVE = ("queued", "running")
_OF_STAGE = (
    "state", "reason", "since", "unit", "job", "log", "done", "missing", "stale", "broken",
    "tasks_running", "starts", "ends", "next",
)  # fmt: skip
_RECENT = 0.1  # of the steps: the second of two trends


def facts(
    project: Project,
    chain: Chain,
    seen: Snapshot,
    now: float,
    *,
    queue: Facts | None = None,
    last_step: int | None = None,
) -> Facts:
    """Everything that is shown, as plain values; times are Unix times, durations seconds.

    `queue` is the time of Slurm's answer, and why there is no newer one; None without jobs on Slurm.
    Detectors of single bad steps look at those after `last_step`, the last one that an earlier look saw.
    """
    job = _job(chain[_TRAIN], seen)
    alive = job.state in _ALIVE
    past = history(seen, alive=alive)
    stage = chain[_TRAIN]
    steps = stage.get("steps")
    done = int(stage.get("step") or 0)
    left = None if steps is None else max(0, steps - done)
    spent = goodput(seen, past, now, alive=alive, tokens_made=_tokens_made(project))
    new = _new(seen.recent, last_step, now)
    seen_now = replace(
        look(project, seen, past, job, now, left=left, new=new),
        failed=[
            (name, one.get("reason") or "no reason was recorded")
            for name, one in chain.items()
            if one["state"] == "failed" and name != _TRAIN
        ],
        first_loss=_first_loss(seen.steps),
        resume=_resume(project, chain[_TRAIN], seen),
    )
    since = guard_state.load(seen.run).since()
    return {
        "run": str(seen.run.root),
        "time": now,
        "chain": {name: {key: one.get(key) for key in _OF_STAGE} for name, one in chain.items()},
        "queue": queue,
        "training": _training(seen, stage),
        "trend": _trends(seen),
        "goodput": {
            **spent.whole.facts(),
            "losses": [name for name, _ in spent.whole.losses()],
            "hour": spent.hour.facts(),
            "day": spent.day.facts(),
        },
        "attempts": [_attempt(one) for one in past.attempts],
        "checkpoint": _checkpoint(seen_now.saved, now),
        "limit": _limit(project, stage, past),
        "arrival": _arrival(project, seen, past, left, now, alive=alive),
        "disk": seen_now.disk and {"free": seen_now.disk.free, "needed": seen_now.disk.needed},
        "alerts": [{**alert.facts(), "since": since.get(alert.key)} for alert in found(seen_now)],
        "tensorboard": _tensorboard(seen.run),
        "problems": seen.damage,
    }


def _resume(project: Project, stage: Facts, seen: Snapshot) -> str:
    """The command that continues the run: the one of its stage, if that is over."""
    if stage.get("next") and stage["state"] not in _ALIVE:
        return str(stage["next"])
    verb = seen.submitted.verb_on(project.cluster)
    return program.command("pipeline", verb, seen.run.root)


def _new(steps: Sequence[StepRow], last_step: int | None, now: float) -> int:
    """The number of steps that no look has seen: those of an hour at most, and always some."""
    if last_step is None:
        return _NEW
    seen = sum(1 for row in steps if row["step"] > last_step and row["time"] > now - HOUR)
    return min(max(_NEW, seen), _MOST_NEW)


def _first_loss(steps: StepColumns) -> float | None:
    """The median loss of the first steps; None for a fork, whose model has learned before."""
    first = steps.loss[:_NEW]
    first = first[~np.isnan(first)]
    return float(np.median(first)) if len(first) and steps.step[0] == 1 else None


def _job(stage: Facts, seen: Snapshot) -> WatchedJob:
    """The training job, from the state of its stage."""
    state: Literal["queued", "running", "gone", "unknown"] = "gone"
    if stage["state"] == "queued":
        state = "queued"
    elif stage["state"] == "running":
        state = "running"
    elif stage["state"] == "unknown":  # the queue does not answer: as the files have it
        last = seen.begun[-1] if seen.begun else None
        decided = {row["job"] for row in seen.decisions}
        state = "unknown"
        if last and last.start and last.end is None and last.start["job"] not in decided:
            state = "running"
    number = (stage.get("job") or "").removeprefix("job ")
    return WatchedJob(
        state, stage.get("since"), stage.get("reason"), number if number.isdecimal() else None
    )


def _tensorboard(run: Run) -> str | None:
    """The command that shows the run in TensorBoard; None if it has no event files."""
    return shlex.join(event_files.command(run)) if run.tensorboard.is_dir() else None


def _tokens_made(project: Project) -> float | None:
    index = Workspace(Path(project.recipe.workspace)).tokens_index
    return index.stat().st_mtime if index.is_file() else None


def _training(seen: Snapshot, stage: Facts) -> Facts:
    validations = seen.validations
    last = seen.recent[-1] if seen.recent else None
    keys = ("step", "steps", "loss", "tokens_per_second", "last_step", "attempts", "inexact")
    return {
        **{key: stage.get(key) for key in keys},
        "mfu": last.get("mfu") if last else None,
        "validation_loss": validations[-1]["validation_loss"] if validations else None,
        "validation_step": validations[-1]["step"] if validations else None,
    }


def _trends(seen: Snapshot) -> Facts:
    """The trend of the loss: of the whole run, and of its last steps."""
    steps, validations = seen.steps, seen.validations
    recent = slice(len(steps) - math.ceil(_RECENT * len(steps)), None)
    return {
        "whole": trend(steps.step, steps.loss, validations),
        "recent": trend(steps.step[recent], steps.loss[recent], validations),
    }


def _limit(project: Project, stage: Facts, past: History) -> float | None:
    """When the running attempt reaches its time limit: as Slurm says, else from its start."""
    ends: float | None = stage.get("ends")
    last = past.attempts[-1] if past.attempts else None
    if stage["state"] != "running" or ends or last is None or last.decision:
        return ends
    return last.start + project.cluster.training.minutes * 60.0


def _attempt(one: AttemptTimes) -> Facts:
    return {
        "number": one.number,
        "start": one.start,
        "end": one.decision["time"] if one.decision else one.left,
        "from_step": one.from_step,
        "steps": len(one.steps),
        "lost": int((~one.kept).sum()),
        "reason": one.decision["reason"] if one.decision else one.outcome,
    }


def _checkpoint(saved: Sequence[tuple[float, int]], now: float) -> Facts | None:
    if not saved:
        return None
    at, step = saved[-1]
    return {"step": step, "time": at, "age": now - at}


def _arrival(
    project: Project, seen: Snapshot, past: History, left: int | None, now: float, *, alive: bool
) -> Facts | None:
    """The forecast, and in `week` the one if interruptions continue as in the last week.

    A run that neither runs nor waits is taken to begin, or to be resumed, now.
    """
    if not left:
        return None
    before = None if past.seconds else planned.pace(project)
    starts = [one.first_activity - one.start for one in past.attempts if one.first_activity]
    figures = Planned(
        before.seconds if before else None,
        delay=max([60.0, *starts]) + (0.0 if seen.submitted.here else _RESTART),
        limit=project.cluster.training.minutes * 60.0,
    )
    forecast = arrival(pace(past, now), left, now, figures)
    week = arrival(pace(past, now, over=WEEK), left, now, figures)
    if forecast is None or week is None:
        return None
    basis = before.basis if before else "measured"
    more = {"basis": basis, "left": left, "if_submitted_now": not alive}
    return {**forecast.facts(), **more, "week": week.facts()}
