"""The plan as a page of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.output.quantities import count, duration, size
from kit.plan.simulation import page as simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME, _VALUE = 22, 16  # widths


def lines(facts: dict[str, Any]) -> list[str]:
    """The lines of `planning.facts`: a name, a value and its source each."""
    ranks, nodes = count(facts["ranks"], "rank"), count(facts["nodes"], "node")
    return [
        f"{facts['recipe']} on {facts['cluster']}: {ranks} on {nodes}, "
        f"{facts['accelerator'] or 'no accelerator named'}. Computed, but for figures called rehearsed.",
        *_section("parameters", _parameters(facts["parameters"])),
        *_section("memory of a rank", _memory(facts["memory"])),
        *(f"  does NOT fit: {one['text']}; {one['remedy']}" for one in facts["misfits"]),
        *_section("between ranks, a step", _communication(facts["communication"])),
        *_section("host memory of a node", _node_memory(facts["node_memory"])),
        *_section("time", _time(facts["time"])),
        *_section("checkpoints", _checkpoints(facts["checkpoints"])),
        *_section("disk", _disk(facts["disk"])),
        *_section("interruptions", _interruptions(facts["interruptions"])),
        *(["", *simulated.lines(facts["simulation"])] if "simulation" in facts else []),
    ]


def whole(number: float) -> str:
    """A number with separators, without decimals."""
    return f"{number:,.0f}"


def seconds_range(seconds: list[float]) -> str:
    """The fewest and the most seconds."""
    return " to ".join(f"{one:.3g}" for one in seconds) + " s"


def _section(title: str, rows: Iterator[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from rows


def _row(name: str, fact: dict[str, Any], shown: Callable[[Any], str]) -> str:
    value = "-" if fact["value"] is None else shown(fact["value"])
    return f"  {name:{_NAME}}{value:>{_VALUE}}  {fact['source']}"


def _parameters(parameters: dict[str, Any]) -> Iterator[str]:
    for name, part in parameters["parts"].items():
        yield _row(name, part, whole)
    yield _row("total", parameters["total"], whole)


def _memory(memory: dict[str, Any]) -> Iterator[str]:
    for name, part in memory["parts"].items():
        yield _row(name, part, size)
    yield _row("total", memory["total"], size)
    yield _row("device", _judged(memory), size)
    largest = memory["largest_micro_batch"]
    for how, name in (("plain", "largest micro-batch"), ("checkpointing", "with checkpointing")):
        yield _row(name, {**largest, "value": largest["value"][how]}, str)
    yield _row("rehearsed", memory["rehearsed"], size)
    if memory["rehearsed"]["value"]:
        yield _row("to compare with it", memory["tensors"], size)


def _communication(communication: dict[str, Any]) -> Iterator[str]:
    names = {
        "gradients": ("gradients", size),
        "wait_seconds": ("  waited for", duration),
        "weights": ("weights", size),
        "weights_wait_seconds": ("  waited for", duration),
        "with_zero1": ("with zero1", size),
        "zero1_wait_seconds": ("  waited for", duration),
        "zero1_memory": ("  its memory", size),
    }
    for key, fact in communication.items():
        yield _row(names[key][0], fact, names[key][1])


def _node_memory(memory: dict[str, Any]) -> Iterator[str]:
    for name, part in memory["parts"].items():
        if part["value"]:
            yield _row(name, part, size)
    yield _row("total", memory["total"], size)
    yield _row("node", _judged(memory), size)


def _judged(memory: dict[str, Any]) -> dict[str, Any]:
    """The limit, with whether the needed memory fits."""
    verdict = {None: "", True: "; it fits", False: "; it does NOT fit"}[memory["fits"]]
    limit: dict[str, Any] = memory["limit"]
    return {**limit, "source": limit["source"] + verdict}


def _time(time: dict[str, Any]) -> Iterator[str]:
    yield _row("tokens a step", time["tokens_a_step"], whole)
    yield _row("steps", time["steps"], whole)
    yield _row("tokens", time["tokens"], whole)
    yield _row("work of a token", time["flops_per_token"], lambda flop: f"{flop / 1e9:.4g} GFLOP")
    yield _row("a step", time["seconds_a_step"], lambda seconds: f"{seconds:.3g} s")
    if time["computed_seconds"]["value"] is not None:
        yield _row("  computed", time["computed_seconds"], lambda seconds: f"{seconds:.3g} s")
    if time["estimated_seconds"]["value"] is not None:
        yield _row("  estimated", time["estimated_seconds"], seconds_range)
    yield _row("tokens per second", time["tokens_per_second"], whole)
    yield _row("days", time["days"], lambda days: f"{days:.1f}" if days >= 1 else f"{days:.2g}")


def _checkpoints(checkpoints: dict[str, Any]) -> Iterator[str]:
    yield _row("size", checkpoints["bytes"], size)
    yield _row("blocks training for", checkpoints["blocked_seconds"], duration)
    yield _row("is written in", checkpoints["writing_seconds"], duration)
    yield _row("is loaded in", checkpoints["loading_seconds"], duration)
    yield _row("a start takes", checkpoints["start_seconds"], duration)
    every = checkpoints["every_steps"]
    if every["value"] is not None:
        yield _row("one every", every, lambda steps: f"{steps:,} steps")
    yield _row("by time, one every", checkpoints["interval_seconds"], duration)
    for name, fact in checkpoints["by_failures"].items():
        yield _row(f"  {name} failures", fact, duration)


def _disk(disk: dict[str, Any]) -> Iterator[str]:
    for name, fact in disk.items():
        yield _row(name, fact, size)


def _interruptions(interruptions: dict[str, Any]) -> Iterator[str]:
    for name, fact in interruptions["failures"].items():
        yield _row(f"failures, {name}", fact, lambda number: f"{number:.2g}")
    yield _row("time limits", interruptions["time_limits"], whole)
    yield _row("preemptions", interruptions["preemptions"], whole)
