"""The conditions of a recipe on a cluster, each with its source: given, measured, computed or assumed.

found = given(recipe, cluster, facts, Chances(preemptions=2.0), own=None, measured=None)
simulate(found.conditions, 10_000), found.inputs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError
from kit.plan.figure import figure
from kit.plan.report import FAILURES
from kit.plan.simulation.conditions import DAY, Conditions, Costs, Queue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe

    Figure = dict[str, Any]

PREEMPTIONS = 1.0  # a day, assumed: as the checkpoint interval of a run that has none yet
WAIT = 1800.0  # seconds in the queue, assumed
GRACE = 30.0  # seconds: Slurm's KillWait, which is what a job has where GraceTime is 0
_START = {  # seconds, assumed: eight ranks that import from a parallel file system
    "startup_import": 60.0,
    "startup_ranks": 10.0,
    "startup_load": 60.0,
    "startup_first_step": 10.0,
}
_LEAVING, _CRASH = 10.0, 30.0  # seconds, assumed: an exit; KillWait
_ENOUGH = 5  # waits that were observed: fewer are not drawn from
_FORWARD = 1 / 3  # of the work of a step: it has no backward pass


@dataclass(frozen=True)
class Chances:
    """Interruptions and queue, as far as the user says."""

    failures: float | None = None  # per 1,000 node-days
    preemptions: float | None = None  # per day
    queue: float | None = None  # mean, in seconds
    deviation: float | None = None  # standard deviation of it, in seconds


@dataclass(frozen=True)
class Own:
    """The record of a run so far."""

    waits: Sequence[
        float
    ] = ()  # seconds from the end of an attempt until the next one has its nodes
    preemptions: int = 0
    held: float = 0.0  # seconds for which its nodes were held


@dataclass(frozen=True)
class Given:
    """Conditions, and where each of them is from."""

    conditions: Conditions
    inputs: Mapping[str, Figure]


def given(
    recipe: Recipe,
    cluster: Cluster,
    facts: Mapping[str, Any],
    chances: Chances,
    own: Own | None,
    measured: Mapping[str, Any] | None,
) -> Given:
    """The conditions; `facts` is the plan, `measured` a rehearsal's `measure`.

    Raises ConfigError if the number of steps or their time is unknown.
    """
    time, saves = facts["time"], facts["checkpoints"]
    steps = _known(time["steps"], "the number of steps is", "give training.steps=N")
    step = _known(time["seconds_a_step"], "the time of a step is", "then simulate")
    training, resources = recipe.training, cluster.training
    validation = _validation(recipe, step["value"], measured)
    starts = _starts(saves["loading_seconds"], measured)
    failures = _failures(chances, resources.nodes)
    preemptions = _preemptions(cluster, chances, own)
    queue, wait = _queue(cluster, chances, own)
    grace = _grace(cluster)
    conditions = Conditions(
        steps["value"],
        _costs(step, saves, validation["value"] / training.validate_every, starts),
        failures=failures["value"] * resources.nodes / 1000,
        preemptions=preemptions["value"],
        queue=queue,
        limit=resources.minutes * 60.0,
        warning=float(resources.warning_seconds),
        grace=grace["value"],
        grace_known=resources.grace_seconds is not None,
        every=training.checkpoint_every,
        micro_batches=max(
            1, training.global_batch // (training.micro_batch_size * resources.ranks)
        ),
    )
    inputs = {
        "steps": steps,
        "seconds_a_step": step,
        "validation_seconds": validation,
        "failures": failures,
        "preemptions": preemptions,
        "queue_seconds": wait,
        "limit_seconds": figure(conditions.limit, "cluster.training.minutes"),
        "warning_seconds": figure(conditions.warning, "cluster.training.warning_seconds"),
        "grace_seconds": grace,
        "interval_seconds": _interval(saves, training.checkpoint_every, step["value"]),
        "save_blocked_seconds": saves["blocked_seconds"],
        "save_writing_seconds": saves["writing_seconds"],
        **{f"{name}_seconds": one for name, one in starts.items()},
        "leaving_seconds": figure(_LEAVING, "from the last save to the end of the job, assumed"),
        "crash_seconds": figure(_CRASH, "from a failure to the end of the job, assumed"),
    }
    return Given(conditions, inputs)


def _known(fact: Figure, name: str, remedy: str) -> Figure:
    if fact["value"] is None:
        reason = fact["source"].removeprefix("unknown: ")
        raise ConfigError(f"--simulate: {name} unknown ({reason}); {remedy}")
    return fact


def _costs(
    step: Figure, saves: Mapping[str, Any], validation: float, starts: Mapping[str, Figure]
) -> Costs:
    blocked, writing = (saves[f"{key}_seconds"]["value"] for key in ("blocked", "writing"))
    return Costs(
        step["value"],
        blocked,
        max(writing, blocked),
        validation,
        **{name: one["value"] for name, one in starts.items()},
        leaving=_LEAVING,
        crash=_CRASH,
    )


def _validation(recipe: Recipe, step: float, measured: Mapping[str, Any] | None) -> Figure:
    """Seconds of one validation."""
    blocks, batch = recipe.training.validation_blocks, recipe.training.global_batch
    if measured is not None and measured["validation_seconds"] is not None:
        return figure(measured["validation_seconds"], "rehearsed")
    if blocks is None:
        return figure(0.0, "left out: training.validation_blocks is null, its tokens unknown")
    source = f"computed: a third of the work of a step on {blocks:,} of its {batch:,} blocks"
    return figure(_FORWARD * step * blocks / batch, source)


def _starts(loading: Figure, measured: Mapping[str, Any] | None) -> dict[str, Figure]:
    """Seconds of the parts of a start, a checkpoint's load included."""
    rehearsed = (measured or {}).get("start_parts")
    source = "rehearsed" if rehearsed else "assumed"
    parts = {name: figure(one, source) for name, one in (rehearsed or _START).items()}
    load = parts["startup_load"]["value"] + loading["value"]
    source = f"{source}, and {loading['value']:.3g} s for the checkpoint: {loading['source']}"
    return parts | {"startup_load": figure(load, source)}


def _failures(chances: Chances, nodes: int) -> Figure:
    """Failures per 1,000 node-days."""
    on = f"per 1,000 node-days, {nodes} held, exponential"
    if chances.failures is not None:
        return figure(chances.failures, f"{on}: --failures")
    return figure(FAILURES["usual"], f"{on}: Meta's RSC-1 (arXiv 2410.21680)")


def _preemptions(cluster: Cluster, chances: Chances, own: Own | None) -> Figure:
    on = "a day of held nodes, exponential"
    if chances.preemptions is not None:
        return figure(chances.preemptions, f"{on}: --preemptions")
    if cluster.is_this_machine:
        return figure(0.0, "kind: local: nobody preempts")
    if own is None or not own.held:
        return figure(PREEMPTIONS, f"{on}: assumed")
    days = own.held / DAY
    rate = (1 + own.preemptions) / (1 + days)
    return figure(rate, f"{on}: {own.preemptions:,} in the run's {days:.3g} days, and one in one")


def _queue(cluster: Cluster, chances: Chances, own: Own | None) -> tuple[Queue, Figure]:
    if chances.queue is not None:
        queue = Queue(chances.queue, chances.deviation)
        more = "" if chances.deviation is None else f" of deviation {chances.deviation / 60:g} min"
        return queue, figure(queue.mean, f"before each attempt, {queue.words}{more}: --queue")
    if cluster.is_this_machine:
        return Queue(), figure(0.0, "kind: local: no queue")
    if own is not None and len(own.waits) >= _ENOUGH:
        queue = Queue(observed=tuple(own.waits))
        return queue, figure(queue.expected, f"before each attempt, {queue.words} in this run")
    few = f"; the run has {len(own.waits)} so far" if own is not None and own.waits else ""
    return Queue(WAIT), figure(WAIT, f"before each attempt, exponential: assumed{few}")


def _grace(cluster: Cluster) -> Figure:
    if cluster.training.grace_seconds is not None:
        return figure(float(cluster.training.grace_seconds), "cluster.training.grace_seconds")
    return figure(GRACE, "assumed: Slurm's KillWait; cluster.training.grace_seconds gives yours")


def _interval(saves: Mapping[str, Any], every: int | None, step: float) -> Figure:
    if every is not None:
        return figure(every * step, f"training.checkpoint_every={every:,}")
    source = "at first; then from what the run has met, as the kit computes it"
    return figure(saves["interval_seconds"]["value"], source)
