"""A rehearsal: a few steps of the real recipe on the real machine, and an estimate of the whole run.

It is a run of its own, `NAME-rehearsal`, with the model, batch and ranks of the recipe, and with saves and
validations within its few steps. It replaces an earlier rehearsal. With `synthetic` it reads random tokens
(kit/relay/synthetic.py), so that you know before the download whether the micro-batch fits, and the rate.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
import uuid
from typing import TYPE_CHECKING, Any

from kit.cluster import scheduler
from kit.cluster.patience import pauses
from kit.cluster.snapshot import snapshot
from kit.config import devices
from kit.config.run import Project
from kit.data import tokens
from kit.errors import ClusterError, JobFailed, RunError, StageError
from kit.models import architectures
from kit.output import log
from kit.output.interrupt import keeping
from kit.plan.disk import checkpoints_kept
from kit.plan.interval import checkpoint_interval
from kit.plan.shape import vocab_size
from kit.relay import synthetic
from kit.relay.stages import TRAIN
from kit.relay.submit import run_here, submit
from kit.store import records
from kit.store.files import read_json, write_text
from kit.store.paths import Workspace
from kit.tracking import ledger

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Run
    from kit.tracking.rows import Row

WARM_UP = 5  # steps of an attempt that are not counted: caches and compilers warm up
_PAUSE = 30.0  # seconds between two lines of progress
_TRIES = 60  # failed calls in a row before giving up


def rehearse(
    project: Project, steps: int, *, with_synthetic: bool = False, profile: bool = False
) -> dict[str, Any]:
    """Run `steps` steps and wait for them; returns `report`. Progress goes to stderr.

    With `profile`, rank 0 writes a trace of some of them (kit/training/profiler.py).

    Raises RunError if the directory is not a rehearsal or one is running, StageError if there are no
    tokens yet and none synthetic, JobFailed if it does not finish.
    """
    from kit.run import directory

    recipe, cluster = project.recipe, project.cluster
    if not with_synthetic:
        _require_tokens(recipe)
    training = recipe.training.model_copy(
        update={
            "steps": steps,
            "epochs": None,
            "validate_every": steps,
            "samples_every": None,
            "checkpoint_every": steps // 2,
            "keep_every": None,
            # Synthetic tokens have no tokenizer that could make text of them.
            "sample_tokens": None if with_synthetic else recipe.training.sample_tokens,
        }
    )
    rehearsed = recipe.model_copy(
        update={
            "name": f"{recipe.name}{Workspace.REHEARSAL}",
            "training": training,
            "tracking": recipe.tracking.model_copy(update={"mlflow": None}),
        }
    )
    cluster_without_drill = cluster.model_copy(update={"preempt_at_step": None})
    workspace = synthetic.workspace_of(rehearsed)
    _replace_synthetic(workspace, rehearsed.name)
    if with_synthetic:
        rehearsed = synthetic.synthetic_recipe(rehearsed)
        synthetic.make(rehearsed, steps, cluster.training.ranks)
        log.info(f"rehearsal: synthetic tokens in {rehearsed.workspace}")
    rehearsal = Project.of(rehearsed, cluster_without_drill)
    run = rehearsal.run
    replace(run)
    run.root.mkdir(parents=True, exist_ok=True)
    directory.identify(run, rehearsed.name, rehearsal_of=recipe.name)
    if profile:
        write_text(run.profile, str(WARM_UP))
    try:
        if cluster.is_this_machine:
            run_here(rehearsal, [TRAIN], log.info)
        else:
            submit(rehearsal, [TRAIN], log.info)
            with keeping("its job continues; cancel it with scancel"):
                _wait(rehearsal)
    finally:
        if not run.jobs.is_file():  # refused: nothing was started
            shutil.rmtree(run.root)
            synthetic.remove(workspace)
    return report(run, recipe, cluster, with_synthetic=with_synthetic)


def replace(run: Run) -> None:
    """Remove an earlier rehearsal. Raises RunError for any other run, or one that is running."""
    from kit.relay.submit import ensure_idle
    from kit.run import directory

    if not run.root.exists():
        return
    if not directory.is_rehearsal(run):
        raise RunError(
            f"{run.root}: not a rehearsal; give this recipe another name=, or move that run"
        )
    ensure_idle(run)
    aside = run.root.with_name(f".{run.root.name}-{uuid.uuid4().hex[:8]}")
    run.root.rename(aside)
    shutil.rmtree(aside)


def report(
    run: Run, recipe: Recipe, cluster: Cluster, *, with_synthetic: bool = False
) -> dict[str, Any]:
    """The measurements of a rehearsal and the estimate for the whole run, as plain values.

    With synthetic tokens, values that depend on the number of real tokens are null: the number of steps
    if the recipe gives `epochs`, and the time of a validation on the whole held-out part.
    """
    measured = measure(run, recipe, cluster)
    unknown: list[str] = []
    if with_synthetic:
        unknown = _unknown(recipe)
        measured |= {"training_tokens": None, "vocabulary": vocab_size(recipe)}
        if "validation" in unknown:
            measured["validation_seconds"] = None
    return {
        "rehearsal": str(run.root),
        "synthetic": with_synthetic,
        "measured": measured,
        "whole": None if "steps" in unknown else whole(run, measured, recipe, cluster),
        "profile": profile_of(run),
        "unknown": unknown,
    }


def profile_of(run: Run) -> dict[str, Any] | None:
    """The newest profile of a run: the path of the trace, and seconds by part; None if it has none."""
    tables = [path for attempt in ledger.attempts(run) for path in attempt.profiles]
    if not tables:
        return None
    profile: dict[str, Any] = read_json(tables[-1])
    return profile | {"trace": str(tables[-1].with_name(profile["trace"]))}


def measure(run: Run, recipe: Recipe, cluster: Cluster) -> dict[str, Any]:
    """Seconds, tokens per second, MFU, bytes: medians over steps, maxima over saves and validations."""
    attempts = ledger.attempts(run)
    by_attempt = [list(ledger.rows(attempt)) for attempt in attempts]
    rows = [row for of_attempt in by_attempt for row in of_attempt]
    steps_by_attempt = [[row for row in rows if row["kind"] == "step"] for rows in by_attempt]
    steps = [row for of_attempt in steps_by_attempt for row in of_attempt[WARM_UP:]]
    saves = [row for row in rows if row["kind"] == "checkpoint"]
    validations = [row for row in rows if row["kind"] == "validation"]
    begun = next(row for row in rows if row["kind"] == "attempt")
    if not steps or not saves:
        raise JobFailed(
            f"{run.root}: nothing to measure: no attempt has a save and more than {WARM_UP} steps"
        )
    seconds = statistics.median(row["seconds"] for row in steps)
    rate = recipe.training.global_batch * recipe.model.n_positions / seconds
    starts = [
        of_attempt[0]["time"] - of_attempt[0]["seconds"] - records.start(attempt)["time"]
        for attempt, of_attempt in zip(attempts, steps_by_attempt, strict=True)
        if of_attempt
    ]
    parts = [
        found
        for attempt, of_attempt in zip(attempts, by_attempt, strict=True)
        if (found := _start_parts(records.start(attempt), of_attempt, seconds))
    ]
    work = architectures.of(recipe.model).flops_per_token(begun["parameters"])
    accelerator = cluster.training.accelerator
    return {
        "steps": len(steps),
        "ranks": begun["ranks"],
        "parameters": begun["parameters"],
        "training_tokens": begun["training_tokens"],
        "seconds_a_step": seconds,
        "tokens_per_second": rate,
        "mfu": accelerator
        and rate * work / (begun["ranks"] * devices.ACCELERATORS[accelerator].peak_flops),
        "memory_bytes": max(row.get("memory_bytes") or 0 for row in steps) or None,
        "save_seconds": max(row["seconds"] - row.get("rested", 0.0) for row in saves),
        "save_blocked_seconds": max(row["blocked"] for row in saves),
        "checkpoint_bytes": max(row["bytes"] for row in saves),
        "validation_seconds": max((row["seconds"] for row in validations), default=0.0),
        "start_seconds": max(starts),
        "start_parts": {name: max(one[name] for one in parts) for name in parts[0]}
        if parts
        else None,
    }


def _start_parts(start: records.Start, rows: list[Row], usual: float) -> dict[str, float] | None:
    """Seconds of the parts of a start, by the buckets of goodput; None if its times are not known.

    `usual` is the time of a step.
    """
    times = start.get("times", {})
    active = [row for row in rows if row["kind"] in ("step", "validation")]
    steps = [row for row in active if row["kind"] == "step"]
    met = next((row.get("met") for row in rows if row["kind"] == "attempt"), None)
    if "started" not in times or "imported" not in times or met is None or not steps:
        return None
    began = active[0]["time"] - active[0]["seconds"]
    return {
        "startup_import": times["imported"] - times["started"],
        "startup_ranks": met - start["time"],
        "startup_load": (start["time"] - times["imported"]) + (began - met),
        "startup_first_step": max(0.0, steps[0]["seconds"] - usual),
    }


def whole(run: Run, measured: dict[str, Any], recipe: Recipe, cluster: Cluster) -> dict[str, Any]:
    """Estimate the whole run from the measurements, without time in the queue."""
    training = recipe.training
    blocks = max(0, ((measured["training_tokens"] or 0) - 1) // recipe.model.n_positions)
    steps = training.steps_over(blocks)
    computed = checkpoint_interval(
        measured["save_blocked_seconds"], measured["save_seconds"], 0.0, 0
    )
    interval = (
        computed
        if training.checkpoint_every is None
        else training.checkpoint_every * measured["seconds_a_step"]
    )
    train = steps * measured["seconds_a_step"]
    saves = max(1, math.ceil(train / interval))
    saving = saves * measured["save_blocked_seconds"]
    validations = math.ceil(steps / training.validate_every) + 1
    validating = validations * (measured["validation_seconds"] or 0.0)
    # An attempt starts, trains, and ends early enough for a last save.
    limit = cluster.training.minutes * 60
    useful = limit - measured["start_seconds"] - measured["save_seconds"]
    attempts = math.ceil((train + saving + validating) / useful) if useful > 0 else None
    starting = (attempts or 1) * measured["start_seconds"]
    kept = checkpoints_kept(training, steps)
    return {
        "steps": steps,
        "tokens": steps * training.global_batch * recipe.model.n_positions,
        "step_hours": train / 3600,
        "save_hours": saving / 3600,
        "validation_hours": validating / 3600,
        "start_hours": starting / 3600,
        "days": (train + saving + validating + starting) / 86_400,
        "attempts": attempts,
        "time_limit_minutes": cluster.training.minutes,
        "saves": saves,
        "checkpoint_interval_seconds": interval,
        "computed_interval_seconds": computed,
        "checkpoints_kept": kept,
        # One more is on disk while it is written.
        "disk_bytes": (kept + 1) * measured["checkpoint_bytes"],
        "disk_free_bytes": shutil.disk_usage(run.root).free,
    }


def _require_tokens(recipe: Recipe) -> None:
    try:
        tokens.complete(recipe)
    except StageError as error:
        raise StageError(f"{error}, or give --synthetic to rehearse without tokens") from None


def _replace_synthetic(workspace: Workspace, name: str) -> None:
    """Remove the synthetic tokens of an earlier rehearsal. Raises RunError if it is running."""
    replace(workspace.run(name))
    synthetic.remove(workspace)


def _unknown(recipe: Recipe) -> list[str]:
    """The figures of a recipe that depend on its tokens."""
    training = recipe.training
    return [
        *(["steps"] if training.steps is None else []),
        *(["validation"] if training.validation_blocks is None else []),
    ]


def _wait(project: Project) -> None:
    """Wait until the scheduler has finished the rehearsal's job, logging progress.

    Raises JobFailed if it ended before its last step.
    """
    run, recipe = project.run, project.recipe
    logged, failures, queue = -_PAUSE, 0, scheduler.for_cluster(project.cluster)
    for pause in pauses():
        try:
            alive = queue.alive(run)
            failures = 0
        except ClusterError as error:  # slurmctld may be restarting
            failures += 1
            if failures > _TRIES:
                raise
            log.warning(f"rehearsal: {error}; trying again in {pause:.0f} s")
            alive = None
        if alive == []:
            break
        if alive and time.monotonic() > logged + _PAUSE:
            logged = time.monotonic()
            step = max((row["step"] for row in snapshot(run).recent), default=0)
            log.info(f"rehearsal: {alive[0].words}, step {step:,} of {recipe.training.steps:,}")
    if not TRAIN.done(run, recipe):
        reason = (
            snapshot(run, curve=False).stopped
            or "its job ended before it started, as after scancel"
        )
        raise JobFailed(f"{run.root}: {reason}; see {run.job_logs('train')}")
