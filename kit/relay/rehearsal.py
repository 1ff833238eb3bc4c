"""A rehearsal: some steps of the real recipe on the real machine, and what the whole run would take.

It is a run of its own, `NAME-rehearsal`, with the model, batch and ranks of the recipe; only its end,
its saves and its validations are nearer. An earlier rehearsal is replaced. With `synthetic` it reads
random tokens of a workspace of its own (kit/relay/synthetic.py): whether the micro-batch fits, and how
fast it goes, is known before any text is there.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
import uuid
from typing import TYPE_CHECKING, Any

from kit.cluster import scheduler
from kit.config import devices
from kit.config.run import Project
from kit.data import tokens
from kit.errors import ClusterError, JobFailed, RunError, StageError
from kit.output import log
from kit.output.interrupt import keeping
from kit.output.quantities import count, duration, size
from kit.plan.flops import flops_per_token
from kit.plan.interval import checkpoint_interval
from kit.relay import synthetic
from kit.relay.snapshot import snapshot
from kit.relay.stages import TRAIN
from kit.relay.submit import run_here, submit

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import Run, Workspace

SUFFIX = "-rehearsal"
_FIRST = 5  # steps of an attempt that are not counted: caches and compilers warm up
_POLL = 5.0  # seconds between two looks at squeue
_PAUSE = 30.0  # seconds between two lines of progress
_TRIES = 60  # times Slurm may not answer in a row


def rehearse(project: Project, steps: int, *, with_synthetic: bool = False) -> dict[str, Any]:
    """Run `steps` steps and wait for them; returns `report`. Progress goes to stderr.

    Raises RunError where the directory is no rehearsal, or one is at work; StageError before the
    tokens are made, if they are not synthetic; JobFailed where it does not get through.
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
            "checkpoint_every": steps // 2,
            "keep_every": None,
        }
    )
    rehearsed = recipe.model_copy(
        update={
            "name": f"{recipe.name}{SUFFIX}",
            "training": training,
            "tracking": recipe.tracking.model_copy(update={"mlflow": None}),
        }
    )
    here = cluster.model_copy(update={"preempt_at_step": None})
    place = synthetic.place(rehearsed)
    _replace_synthetic(place, rehearsed.name)
    if with_synthetic:
        rehearsed = synthetic.synthetic_recipe(rehearsed)
        synthetic.make(rehearsed, steps, cluster.training.ranks)
        log.info(f"rehearsal: synthetic tokens in {rehearsed.workspace}")
    its = Project.of(rehearsed, here)
    run = its.run
    replace(run)
    run.root.mkdir(parents=True, exist_ok=True)
    directory.identify(run, rehearsed.name, rehearsal_of=recipe.name)
    try:
        if here.is_this_machine:
            run_here(its, [TRAIN], log.info)
        else:
            submit(its, [TRAIN], log.info)
            with keeping("its job goes on; scancel ends it"):
                _wait(its)
    finally:
        if not run.jobs.is_file():  # refused: nothing was begun
            shutil.rmtree(run.root)
            synthetic.remove(place)
    return report(run, recipe, cluster, with_synthetic=with_synthetic)


def replace(run: Run) -> None:
    """Remove an earlier rehearsal. Raises RunError for another run, or one that is at work."""
    from kit.relay.submit import ensure_idle
    from kit.run import directory

    if not run.root.exists():
        return
    if not directory.is_rehearsal(run):
        raise RunError(
            f"{run.root}: is no rehearsal; give this recipe another name=, or move that run"
        )
    ensure_idle(run)
    aside = run.root.with_name(f".{run.root.name}-{uuid.uuid4().hex[:8]}")
    run.root.rename(aside)
    shutil.rmtree(aside)


def report(
    run: Run, recipe: Recipe, cluster: Cluster, *, with_synthetic: bool = False
) -> dict[str, Any]:
    """What a rehearsal measured, and what `recipe` would take as a whole, as plain values.

    Of synthetic tokens it is null where that depends on how many tokens there are: how often they are
    read (`epochs`), how long a validation of the whole held-out part takes.
    """
    measured = measure(run, recipe, cluster)
    unknown: list[str] = []
    if with_synthetic:
        unknown = _unknown(recipe)
        measured |= {"training_tokens": None, "vocabulary": synthetic.vocab_size(recipe)}
        if "validation" in unknown:
            measured["validation_seconds"] = None
    return {
        "rehearsal": str(run.root),
        "synthetic": with_synthetic,
        "measured": measured,
        "whole": None if "steps" in unknown else whole(run, measured, recipe, cluster),
        "unknown": unknown,
    }


def measure(run: Run, recipe: Recipe, cluster: Cluster) -> dict[str, Any]:
    """Seconds, tokens a second, MFU, bytes: medians of steps; of saves and validations the longest."""
    attempts = snapshot(run).begun
    every = [row for one in attempts for row in one.rows]
    stepped = [[row for row in one.rows if row["kind"] == "step"] for one in attempts]
    steps = [row for its in stepped for row in its[_FIRST:]]
    saves = [row for row in every if row["kind"] == "checkpoint"]
    validations = [row for row in every if row["kind"] == "validation"]
    begun = next(row for row in every if row["kind"] == "attempt")
    if not steps or not saves:
        raise JobFailed(
            f"{run.root}: no attempt has more than {_FIRST} steps and a save to measure"
        )
    seconds = statistics.median(row["seconds"] for row in steps)
    rate = recipe.training.global_batch * recipe.model.n_positions / seconds
    starts = [
        its[0]["time"] - its[0]["seconds"] - one.start["time"]
        for one, its in zip(attempts, stepped, strict=True)
        if one.start and its
    ]
    work = flops_per_token(begun["parameters"], recipe.model)
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
        "save_seconds": max(row["seconds"] for row in saves),
        "save_blocked_seconds": max(row["blocked"] for row in saves),
        "checkpoint_bytes": max(row["bytes"] for row in saves),
        "validation_seconds": max((row["seconds"] for row in validations), default=0.0),
        "start_seconds": max(starts),
    }


def whole(run: Run, measured: dict[str, Any], recipe: Recipe, cluster: Cluster) -> dict[str, Any]:
    """What the whole run would take, by what was measured; waiting in the queue is not in it."""
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
    # An attempt starts, works, and leaves early enough for a last save.
    limit = cluster.training.minutes * 60
    useful = limit - measured["start_seconds"] - measured["save_seconds"]
    attempts = math.ceil((train + saving + validating) / useful) if useful > 0 else None
    starting = (attempts or 1) * measured["start_seconds"]
    kept = training.keep + (steps // training.keep_every if training.keep_every else 0)
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
        # One more is being written while the others stand.
        "disk_bytes": (kept + 1) * measured["checkpoint_bytes"],
        "disk_free_bytes": shutil.disk_usage(run.root).free,
    }


def show(found: dict[str, Any]) -> None:
    """Print a report."""
    lines = _measured(found) | (_whole(found) if found["whole"] else _no_whole(found))
    for name, text in lines.items():
        print(f"{name:<15} {text}")


def _measured(found: dict[str, Any]) -> dict[str, str]:
    """The lines of what was measured."""
    measured = found["measured"]
    mfu, memory, validation = (
        measured[key] for key in ("mfu", "memory_bytes", "validation_seconds")
    )
    rate = f"{measured['tokens_per_second']:,.0f} tokens/s"
    save, waits = (duration(measured[f"save_{key}seconds"]) for key in ("", "blocked_"))
    steps, ranks = count(measured["steps"], "step"), count(measured["ranks"], "rank")
    drawn = f"synthetic, drawn at random from {measured.get('vocabulary')} entries"
    return {
        "rehearsal": found["rehearsal"],
        **({"tokens": drawn} if found["synthetic"] else {}),
        "measured over": f"{steps} on {ranks}, without the first",
        "a step": f"{measured['seconds_a_step']:.3f} s, {rate}",
        "MFU": f"{mfu:.1%}" if mfu else "not known: cluster.training.accelerator names no device",
        "memory": f"{size(memory)} of a rank at its peak" if memory else "not known",
        "a save": f"{save}, in {waits} of which training waits; {size(measured['checkpoint_bytes'])}",
        "a validation": "not known: of the whole held-out part, which is not there yet; "
        "training.validation_blocks limits it"
        if validation is None
        else duration(validation),
        "a start": duration(measured["start_seconds"]),
    }


def _no_whole(found: dict[str, Any]) -> dict[str, str]:
    """The line in place of what the whole run would take, where nobody can say."""
    billion = 1e9 / found["measured"]["tokens_per_second"]
    return {
        "the whole run": "not known: the recipe gives epochs, and the tokens to count are not there; "
        f"steps over a billion tokens take {duration(billion)}; training.steps=N tells the rest"
    }


def _whole(found: dict[str, Any]) -> dict[str, str]:
    """The lines of what the whole run would take."""
    total = found["whole"]
    attempts = total["attempts"]
    minutes = count(total["time_limit_minutes"], "minute")
    checkpoints = count(total["checkpoints_kept"], "checkpoint")
    spent = {
        "steps": total["step_hours"],
        "saves": total["save_hours"],
        "validation": total["validation_hours"],
        "starts": total["start_hours"],
    }
    if "validation" in found["unknown"]:
        del spent["validation"]
    aside = "waiting in the queue" + (
        " and validations" if "validation" in found["unknown"] else ""
    )
    intervals = (total["checkpoint_interval_seconds"], total["computed_interval_seconds"])
    return {
        "the whole run": f"{total['steps']:,} steps, {total['tokens']:,} tokens",
        "takes": f"{duration(total['days'] * 86_400)}, {aside} aside",
        "of which": ", ".join(f"{name} {duration(hours * 3600)}" for name, hours in spent.items()),
        "attempts": f"{attempts or 'none comes far enough'}, of {minutes} each",
        "checkpoints": "one in {}; by Young and Daly in {}".format(*map(duration, intervals)),
        "disk": f"{size(total['disk_bytes'])} for {checkpoints} and one being "
        f"written; {size(total['disk_free_bytes'])} are free",
    }


def _require_tokens(recipe: Recipe) -> None:
    try:
        tokens.complete(recipe)
    except StageError as error:
        raise StageError(f"{error}, or give --synthetic to rehearse without tokens") from None


def _replace_synthetic(place: Workspace, name: str) -> None:
    """Remove the synthetic tokens of an earlier rehearsal. Raises RunError where it is at work."""
    replace(place.run(name))
    synthetic.remove(place)


def _unknown(recipe: Recipe) -> list[str]:
    """What nobody can say of a recipe without its tokens."""
    training = recipe.training
    return [
        *(["steps"] if training.steps is None else []),
        *(["validation"] if training.validation_blocks is None else []),
    ]


def _wait(project: Project) -> None:
    """Wait until the scheduler is done with the rehearsal's job; a line of progress now and then.

    Raises JobFailed where it ended before its last step.
    """
    run, recipe = project.run, project.recipe
    told, silent, queue = -_PAUSE, 0, scheduler.of(project.cluster)
    while True:
        try:
            alive = queue.alive(run)
            silent = 0
        except ClusterError as error:  # slurmctld may be restarting
            silent += 1
            if silent > _TRIES:
                raise
            log.warning(f"rehearsal: {error}; again in {_POLL:.0f} s")
            alive = None
        if alive == []:
            break
        if alive and time.monotonic() > told + _PAUSE:
            told = time.monotonic()
            step = max((row["step"] for row in snapshot(run).curve), default=0)
            log.info(f"rehearsal: {alive[0].words}, step {step:,} of {recipe.training.steps:,}")
        time.sleep(_POLL)
    if not TRAIN.done(run, recipe):
        reason = (
            snapshot(run, curve=False).stopped or "its job ended before it began, as after scancel"
        )
        raise JobFailed(f"{run.root}: {reason}; see {run.job_logs('train')}")
