"""Plans of several recipes as one table: a column each, and below it the source of each figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kit.output.quantities import size
from kit.plan.page import seconds_range, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Plan = dict[str, Any]  # of planning.facts

_NAME, _VALUE = 24, 18  # widths
_NO_PART = {"value": None, "source": "none on its device"}  # a CPU and a GPU differ in two parts


class _Row(NamedTuple):
    name: str
    figures: list[dict[str, Any]]  # one for each recipe
    shown: Callable[[Any], str]

    def cells(self) -> list[str]:
        values = [one["value"] for one in self.figures]
        return ["-" if value is None else self.shown(value) for value in values]


def lines(facts: dict[str, Any]) -> list[str]:
    """The lines of `comparing.beside`."""
    plans: list[Plan] = facts["recipes"]
    number = len(plans) // max(1, len(facts["nodes"]))  # of recipes
    tables = [plans[first : first + number] for first in range(0, len(plans), number)]
    names = [
        f"{plan['recipe']} on {_node(plan)}" if len(tables) > 1 else str(plan["recipe"])
        for plan in plans
    ]
    return [
        f"{number} recipes side by side. Computed, but for figures called rehearsed.",
        *(line for table in tables for line in _table(table)),
        "",
        "where each figure is from",
        *(line for row in _rows(plans) for line in _sources(row, names)),
    ]


def _table(plans: list[Plan]) -> Iterator[str]:
    names = [str(plan["recipe"]) for plan in plans]
    width = max(_VALUE, *(len(name) + 2 for name in names))
    yield ""
    yield _line("", names, width)
    yield _line("on", [_node(plan) for plan in plans], width)
    for row in _rows(plans):
        yield _line(row.name, row.cells(), width)


def _rows(plans: list[Plan]) -> Iterator[_Row]:
    def row(name: str, shown: Callable[[Any], str], *keys: str) -> _Row:
        return _Row(name, [_at(plan, keys) for plan in plans], shown)

    yield row("parameters", whole, "parameters", "total")
    yield row("work of a token", lambda flop: f"{flop / 1e9:.4g} GFLOP", "time", "flops_per_token")
    yield row("micro-batch", str, "memory", "micro_batch")
    for part in dict.fromkeys(name for plan in plans for name in plan["memory"]["parts"]):
        parts = [plan["memory"]["parts"].get(part, _NO_PART) for plan in plans]
        yield _Row(f"  {part}", parts, size)
    yield row("  memory of a rank", size, "memory", "total")
    yield row("  of", size, "memory", "limit")
    yield _Row("  free", [_free(plan["memory"]) for plan in plans], _share)
    yield row("host memory", size, "node_memory", "total")
    yield row("gradients, a step", size, "communication", "gradients")
    yield row("a checkpoint", size, "checkpoints", "bytes")
    yield row("tokens a step", whole, "time", "tokens_a_step")
    yield row("steps", whole, "time", "steps")
    yield row("tokens", whole, "time", "tokens")
    yield row("a step", lambda seconds: f"{seconds:.3g} s", "time", "seconds_a_step")
    yield row("  estimated", seconds_range, "time", "estimated_seconds")
    yield row("tokens per second", whole, "time", "tokens_per_second")
    yield row("days", lambda days: f"{days:.1f}", "time", "days")


def _at(plan: Plan, keys: Sequence[str]) -> dict[str, Any]:
    found = plan
    for key in keys:
        found = found[key]
    return found


def _free(memory: dict[str, Any]) -> dict[str, Any]:
    """The share of the device's memory that is left."""
    limit = memory["limit"]["value"]
    share = None if limit is None else 1 - memory["total"]["value"] / limit
    return {"value": share, "source": "of the device's memory"}


def _share(free: float) -> str:
    return f"{free:.0%}" if free >= 0 else "does NOT fit"


def _node(plan: Plan) -> str:
    gpu = plan["accelerator"]
    return f"{plan['ranks']} x {gpu}" if gpu else str(plan["cluster"])


def _line(name: str, cells: list[str], width: int) -> str:
    return f"{name:{_NAME}}" + "".join(f"{cell:>{width}}" for cell in cells)


def _sources(row: _Row, names: list[str]) -> Iterator[str]:
    """A line for each source: if recipes differ in it, with the names of its own."""
    found: dict[str, list[str]] = {}
    for name, figure in zip(names, row.figures, strict=True):
        found.setdefault(figure["source"], []).append(name)
    first = row.name.strip()
    for source, whose in found.items():
        yield (
            f"  {first:{_NAME - 2}}" + ("" if len(found) == 1 else f"{', '.join(whose)}: ") + source
        )
        first = ""
