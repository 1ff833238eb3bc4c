"""The comparison of kinds of nodes as a table: a column each, and notes on where its figures are from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.output.quantities import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME = 24  # width of the first column
_NO_BF16 = "no bf16"  # in place of a verdict


def lines(facts: dict[str, Any]) -> list[str]:
    """The lines of `comparison.facts`."""
    return [
        f"{facts['recipe']} on one node of each kind, by the memory of a rank. All of it is computed.",
        "",
        *(_row(name, cells) for name, cells in _rows(facts["nodes"])),
        "",
        *_notes(facts),
    ]


def _rows(nodes: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """The name of each row, and its text for each node."""

    def cells(text: Callable[[dict[str, Any]], str]) -> list[str]:
        return [text(node) for node in nodes]

    yield "", cells(lambda node: str(node["label"]))
    yield "precision", cells(lambda node: str(node["precision"]))
    yield "attention", cells(lambda node: str(node["attention"]))
    yield "micro-batch", cells(lambda node: str(node["as_written"]["micro_batch"]))
    for part in nodes[0]["parts"]:
        yield f"  {part}", [size(node["parts"][part]) for node in nodes]
    yield "  total", cells(lambda node: size(node["as_written"]["total"]))
    yield "  of", cells(lambda node: size(node["memory"]))
    yield "  free", cells(_verdict)
    for name, key in (("largest micro-batch", "largest"), ("with checkpointing", "checkpointing")):
        found = [node[key] for node in nodes]
        yield name, ["-" if one is None else str(one["micro_batch"]) for one in found]
        yield "  total", ["-" if one is None else size(one["total"]) for one in found]
        yield "  free", ["-" if one is None else _share(one["free"]) for one in found]
    yield "host memory, optimizer", cells(lambda node: size(node["host_bytes"]))
    yield "a step", cells(lambda node: f"{node['seconds_a_step']:.3g} s")
    yield "tokens per second", cells(lambda node: f"{node['tokens_per_second']:,.0f}")
    yield "days", cells(lambda node: "-" if node["days"] is None else f"{node['days']:.1f}")


def _row(name: str, cells: list[str]) -> str:
    return f"{name:{_NAME}}" + "".join(f"{cell:>18}" for cell in cells)


def _verdict(node: dict[str, Any]) -> str:
    if not node["runs"]:
        return _NO_BF16
    free = node["as_written"]["free"]
    return _share(free) if free >= 0 else "does NOT fit"


def _share(share: float) -> str:
    return f"{share:.0%}"


def _notes(facts: dict[str, Any]) -> Iterator[str]:
    nodes = facts["nodes"]
    yield "largest micro-batch: of those that divide the blocks of a rank's step"
    if any(node["precision"] == "fp16" for node in nodes):
        yield "fp16: GPUs before Ampere have no bf16; training.precision=auto chooses it"
    if not all(node["runs"] for node in nodes):
        yield f"{_NO_BF16}: the GPU lacks what training.precision=bf16 needs; set it to auto or fp16"
    if any(node["attention"] == "memory-efficient" for node in nodes):
        yield "memory-efficient: torch's other fused kernel; flash attention 2 needs Ampere, and 16 bits"
    given = "given" if facts["mfu_given"] else "assumed"
    yield f"time: an MFU of {facts['mfu']:.1%}, {given}, of each GPU's own peak"
    if facts["steps"] is None:
        yield "days: unknown, as training.epochs is of tokens that do not exist yet; give --tokens"
