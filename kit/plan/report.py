"""The needs of a run before it begins, as plain values: parameters, memory, time, disk, interruptions.

    known = Known(rehearsed=None, training_tokens=None)
    report.facts(recipe, cluster, known)         # the JSON of `jobs.plan --json`

Every figure is beside its source: computed, assumed, counted in the workspace, or rehearsed. A figure that
cannot be known yet is null, with the reason as its source.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kit.config.devices import ACCELERATORS
from kit.models import architectures
from kit.output.quantities import duration
from kit.output.quantities import size as size_of
from kit.plan import disk, host, interval, length, memory, rate, shape, traffic
from kit.plan.disk import checkpoints_kept
from kit.plan.figure import figure
from kit.plan.length import DAY

if TYPE_CHECKING:
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.plan.known import Known
    from kit.plan.memory import Setup

# Failures per 1,000 node-days of 8-GPU nodes (Meta, arXiv 2410.21680): the rate of RSC-1, A100; and, as the
# cautious one, that of its measured time to failure of 7.9 h at 1,024 GPUs, from all causes (derived).
FAILURES = {"usual": 6.5, "cautious": 23.7}
_META = {
    "usual": "6.5 per 1,000 node-days: Meta's RSC-1 (arXiv 2410.21680)",
    "cautious": "23.7 per 1,000 node-days: Meta at 1,024 GPUs, all causes",
}
# Assumed, bytes per second of a rank: to pinned host memory over PCIe (10 to 25 GB/s), and to a parallel
# file system (0.5 to 1 GB/s a stream).
_COPY, _WRITE = 10e9, 0.5e9
_SIZE = {
    "adamw": "weights, and three fp32 values of AdamW per parameter",
    "muon": "weights, and three fp32 values of AdamW per parameter, or two of Muon",
}


def facts(
    recipe: Recipe, cluster: Cluster, known: Known, mfu: float | None = None
) -> dict[str, Any]:
    """The whole plan; `mfu` overrides a rehearsed rate and the assumed one."""
    time = length.facts(recipe, cluster, known, mfu)
    return {
        "recipe": recipe.name,
        "cluster": cluster.name,
        "ranks": cluster.training.ranks,
        "nodes": cluster.training.nodes,
        "accelerator": cluster.training.accelerator,
        "parameters": _parameters(recipe),
        "memory": _memory(recipe, cluster, known),
        "communication": _communication(recipe, cluster),
        "node_memory": _node_memory(recipe, cluster, known),
        "time": time,
        "checkpoints": _checkpoints(recipe, cluster, known),
        "disk": _disk(recipe, known, time["steps"]["value"]),
        "interruptions": _interruptions(cluster, time["days"]["value"]),
    }


def _parameters(recipe: Recipe) -> dict[str, Any]:
    parts = architectures.of(recipe.model).parts(shape.rows(recipe))
    return {
        "total": figure(shape.parameters(recipe), "the sum"),
        "parts": {part.name: figure(part.number, part.source) for part in parts},
    }


def _memory(recipe: Recipe, cluster: Cluster, known: Known) -> dict[str, Any]:
    setup = shape.setup(recipe, cluster)
    name = cluster.training.accelerator
    limit = ACCELERATORS[name].memory if name and setup.gpu else None
    total, measured = memory.total(setup), (known.rehearsed or {}).get("memory_bytes")
    return {
        "micro_batch": figure(setup.micro_batch, "training.micro_batch"),
        "parts": {part.name: figure(part.bytes, part.source) for part in memory.parts(setup)},
        "total": figure(total, _sum(recipe)),
        "limit": figure(
            limit, f"cluster.training.accelerator={name}" if limit else _no_limit(setup)
        ),
        "fits": None if limit is None else total <= limit,
        "largest_micro_batch": _largest(recipe, setup, limit),
        "host_bytes": figure(
            memory.host_bytes(setup) * cluster.training.ranks_per_node,
            "16 bytes per parameter on a node: the offloaded optimizer"
            if setup.offload
            else "the optimizer is not offloaded",
        ),
        # In a rehearsal a GPU counts tensors, and neither fragmentation nor context; a CPU the process.
        "rehearsed": figure(measured, "the peak of tensors" if setup.gpu else "the whole process")
        if measured
        else figure(None, known.not_rehearsed),
        "tensors": figure(
            sum(part.bytes for part in memory.parts(setup) if part.name not in memory.ALLOWANCES),
            "the sum without fragmentation and context" if setup.gpu else "the sum",
        ),
    }


def _sum(recipe: Recipe) -> str:
    training = recipe.training
    why = training.micro_batch_reason
    return f"the sum, at micro-batch {training.micro_batch}{f': {why}' if why else ''}"


def _node_memory(recipe: Recipe, cluster: Cluster, known: Known) -> dict[str, Any]:
    """Host memory of rank 0's node, and whether it is there."""
    parts = host.parts(shape.setup(recipe, cluster), cluster.training.ranks_per_node)
    needed = host.total(parts)
    limit, source = known.node_memory or (None, "unknown: cluster.training.memory_gb is not given")
    return {
        "parts": {part.name: figure(part.bytes, part.source) for part in parts},
        "total": figure(needed, "at the peak: the start, or the steps with the copy"),
        "limit": figure(limit, source),
        "fits": None if limit is None else needed <= limit,
    }


def _no_limit(setup: Setup) -> str:
    if not setup.gpu:
        return "unknown: a CPU's memory is that of its node"
    return "unknown: cluster.training.accelerator names no device"


def _largest(recipe: Recipe, setup: Setup, limit: float | None) -> dict[str, Any]:
    """The largest micro-batch as the recipe is, and with the other choice of activation checkpointing."""
    blocks = recipe.training.global_batch // setup.ranks
    other = replace(setup, checkpointing=not setup.checkpointing)
    found = {
        "checkpointing" if one.checkpointing else "plain": None
        if limit is None
        else memory.largest(one, limit, blocks)
        for one in (setup, other)
    }
    if limit is None:
        return figure(found, "unknown: so is the memory of a rank's device")
    return figure(found, f"divides the {blocks} blocks of a rank's step, and fits (computed)")


def _communication(recipe: Recipe, cluster: Cluster) -> dict[str, Any]:
    """Gradients between ranks in a step, and the difference that ZeRO-1 would make."""
    setup = shape.setup(recipe, cluster)
    if setup.ranks == 1:
        return {"gradients": figure(0, "there is one rank")}
    micro_batches = recipe.training.global_batch // (setup.micro_batch * setup.ranks)
    backward = _backward(recipe, cluster)
    waited = _wait(setup, micro_batches, cluster, backward)
    found = {"gradients": _traffic(setup, micro_batches)} | _named("wait_seconds", waited)
    found |= _weights(setup, micro_batches, cluster)
    if setup.stage == 2 and not setup.offload and setup.bf16:
        # As in the kit's zero1: in the format of the forward and backward pass.
        other = replace(setup, stage=1, crossing_item=setup.item)
        more = other.gradient_item * other.parameters * (1 - 1 / other.ranks)
        found["with_zero1"] = _traffic(other, micro_batches)
        waited = _wait(other, micro_batches, cluster, backward)
        found |= _named("zero1_wait_seconds", waited)
        found["zero1_memory"] = figure(
            memory.total(other), f"of a rank then: {size_of(more)} more of gradients, no buckets"
        )
    return found


def _named(name: str, fact: dict[str, Any] | None) -> dict[str, Any]:
    return {} if fact is None else {name: fact}


def _backward(recipe: Recipe, cluster: Cluster) -> float | None:
    """Seconds of the backward passes of a step at the assumed MFU: twice the work of the forward passes."""
    seconds = rate.seconds_a_step(recipe, cluster)
    return None if seconds is None else seconds * 2 / 3


def _wait(
    setup: Setup, micro_batches: int, cluster: Cluster, backward: float | None
) -> dict[str, Any] | None:
    """How long GPUs wait for their gradients in a step; None if they cross other links than a node's."""
    if not _joined(setup, cluster) or backward is None:
        return None
    bus = cluster.checks.all_reduce_gb_s
    whole, last = traffic.gradients(setup, micro_batches).seconds(setup.ranks, bus * 1e9)
    of = f"of {duration(whole)} at checks.all_reduce_gb_s={bus:g} (computed)"
    if last == whole:
        return figure(whole, f"all {of}")
    if (beyond := whole - backward) > last:
        return figure(beyond, f"what the backward passes do not hide {of}")
    return figure(last, f"the last bucket of each backward pass, {of}")


def _traffic(setup: Setup, micro_batches: int) -> dict[str, Any]:
    sent = traffic.gradients(setup, micro_batches)
    each = f"at each of {sent.times} micro-batches"
    often = each if setup.stage >= 2 and sent.times > 1 else "once a step"
    how = f"{sent.function} of {size_of(sent.each)}, {8 * setup.crossing_item} bits a gradient"
    return figure(sent.bytes, f"ZeRO-{setup.stage}, {often}: {how}")


def _weights(setup: Setup, micro_batches: int, cluster: Cluster) -> dict[str, Any]:
    """The gathering of updated weights, and the wait for it where it is known."""
    sent = traffic.weights(setup, micro_batches)
    if sent is None:
        return {}
    twice = "at most twice " if sent.times > micro_batches else ""
    often = (
        f"{twice}at each of {micro_batches} micro-batches" if setup.stage == 3 else "once a step"
    )
    source = f"ZeRO-{setup.stage}, {often}: {sent.function} of {size_of(sent.each)}"
    found = {"weights": figure(sent.bytes, source)}
    if setup.stage < 3 and _joined(setup, cluster):
        bus = cluster.checks.all_reduce_gb_s
        _, waited = sent.seconds(setup.ranks, bus * 1e9)
        how = f"all, behind the update, at checks.all_reduce_gb_s={bus:g} (computed)"
        found["weights_wait_seconds"] = figure(waited, how)
    return found


def _joined(setup: Setup, cluster: Cluster) -> bool:
    """Whether the links between the GPUs of one node are all that the ranks need."""
    return setup.gpu and not setup.offload and cluster.training.nodes == 1


def _checkpoints(recipe: Recipe, cluster: Cluster, known: Known) -> dict[str, Any]:
    """Size, cost and interval of checkpoints."""
    parameters, ranks = shape.parameters(recipe), cluster.training.ranks
    precision = recipe.training.precision
    size = figure(shape.checkpoint_bytes(recipe), _SIZE[recipe.training.optimizer])
    largest = memory.captured_bytes(
        parameters, shape.ITEM[precision], ranks, shape.matrices(recipe)
    )
    blocked = figure(largest / _COPY, f"rank 0's {size_of(largest)} at 10 GB/s, assumed")
    writing = figure(largest / _WRITE, f"rank 0's {size_of(largest)} at 0.5 GB/s, assumed")
    if (measured := known.rehearsed) is not None:
        size = figure(measured["checkpoint_bytes"], "rehearsed")
        blocked = figure(measured["save_blocked_seconds"], "rehearsed")
        writing = figure(measured["save_seconds"], "rehearsed")
    every = recipe.training.checkpoint_every
    first = interval.checkpoint_interval(blocked["value"], writing["value"], 0.0, 0)
    return {
        "bytes": size,
        "blocked_seconds": blocked,
        "writing_seconds": writing,
        "loading_seconds": figure(
            largest / _WRITE, f"a rank's {size_of(largest)} at 0.5 GB/s, assumed"
        ),
        "start_seconds": figure(
            (measured or {}).get("start_seconds"),
            "rehearsed, without loading" if measured else "unknown: not rehearsed",
        ),
        "interval_seconds": figure(
            first,
            "Young and Daly at one interruption a day; 10 x the writing at least",
        ),
        "every_steps": figure(every, "training.checkpoint_every; null: by that interval"),
        "by_failures": {
            name: figure(
                interval.young(blocked["value"], 1000 * DAY / (failures * cluster.training.nodes)),
                f"Young at {failures} failures per 1,000 node-days and no other",
            )
            for name, failures in FAILURES.items()
        },
    }


def _disk(recipe: Recipe, known: Known, steps: int | None) -> dict[str, Any]:
    """Bytes by stage."""
    training = recipe.training
    each = shape.checkpoint_bytes(recipe)
    if known.rehearsed is not None:
        each = known.rehearsed["checkpoint_bytes"]
    kept = checkpoints_kept(training, steps or 0)
    source = f"{kept} of {size_of(each)}, and one being written"
    if steps is None and training.keep_every:
        source += f"; one more for every {training.keep_every:,} steps"
    parts = _stages(known) | {
        "checkpoints": figure((kept + 1) * each, source),
        "release": figure(
            disk.release_bytes(recipe, shape.parameters(recipe)),
            f"weights in {recipe.release.dtype}",
        ),
        "records": figure(
            steps and disk.record_bytes(recipe, steps),
            "ledger, TensorBoard, MLflow: bytes a step as measured"
            if steps
            else "unknown: so are the steps",
        ),
    }
    return parts | _room(parts, known)


def _stages(known: Known) -> dict[str, Any]:
    on_disk = known.on_disk or {}
    return {
        name: figure(on_disk[name], "on disk now")
        if name in on_disk
        else figure(None, "unknown: not made yet")
        for name in ("raw", "shards", "tokens")
    }


def _room(parts: dict[str, Any], known: Known) -> dict[str, Any]:
    """The sum of the parts, the rest still to be written, and the room for that."""
    at_end = {name: part["value"] for name, part in parts.items() if part["value"] is not None}
    unknown = [name for name in parts if name not in at_end]
    without = f", without {', '.join(unknown)}" if unknown else ""
    needed = disk.to_write(at_end, known.on_disk or {})
    return {
        "at the end": figure(sum(at_end.values()), f"the sum{without}"),
        "still to write": figure(needed, "the sum without what is on disk now"),
    } | {
        room.name: figure(room.bytes, f"{room.source}; {disk.verdict(needed, room.bytes, unknown)}")
        for room in known.room
    }


def _interruptions(cluster: Cluster, days: float | None) -> dict[str, Any]:
    """Failures and time limits to be expected over the run."""
    nodes, minutes = cluster.training.nodes, cluster.training.minutes
    failures = {
        name: figure(days and rate * nodes * days / 1000, _META[name], so="are the days")
        for name, rate in FAILURES.items()
    }
    limits = None if days is None else max(0, math.ceil(days * 1440 / minutes) - 1)
    return {
        "failures": failures,
        "time_limits": figure(limits, f"cluster.training.minutes={minutes:,}", so="are the days"),
        "preemptions": figure(None, "unknown: your site's; count them in a run with `watch`"),
    }
