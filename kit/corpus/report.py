"""The report on a corpus: what each step kept and dropped, as a table and a plot, and ten documents
before and after. It is made from the manifests of all shards when the last of them is done.
"""

from __future__ import annotations

import bisect
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.data import shards
from kit.store import manifest
from kit.store.files import atomic, read_json, write_text
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.recipe import Recipe

EXAMPLES = "examples.json"
TABLE, PLOT = "report.md", "report.png"
VERSION = 1  # raise when the same shards come to give another report
_EXAMPLES = 10
_SHOWN = 400  # characters of an example, before and after
_SALT = (
    0x9E3779B97F4A7C15  # so that the examples are not the held-out documents, whose keys are small
)


class Examples:
    """The ten documents of a unit with the smallest salted key: as good as drawn at random."""

    def __init__(self) -> None:
        self._found: list[tuple[int, dict[str, Any]]] = []

    def see(self, key: int, raw: Sequence[str], text: str, left_out: str | None) -> None:
        """Look at a document: its key (64 bits), lines, segmented sentences, why it was left out."""
        rank = key ^ _SALT
        if len(self._found) == _EXAMPLES and rank >= self._found[-1][0]:
            return
        example = {
            "rank": f"{rank:016x}",
            "before": _head(raw),
            "after": text[:_SHOWN].replace("```", "'''"),
            "left_out": left_out,
        }
        bisect.insort(self._found, (rank, example), key=lambda entry: entry[0])
        del self._found[_EXAMPLES:]

    def chosen(self) -> list[dict[str, Any]]:
        """The examples, as they go into the shard's folder."""
        return [example for _, example in self._found]


def make(recipe: Recipe) -> Path:
    """Write the report, if it is not there as of these shards; returns its folder.

    Raises StageError where a shard is missing.
    """
    folder = Workspace(Path(recipe.workspace)).corpus_report
    made = shards.complete(recipe)
    causes = manifest.causes("corpus-report", VERSION, {}, {s.name: s.causes for s in made})
    if manifest.state(folder, causes) == "done":
        return folder
    found = [manifest.read(shard.folder, "jobs.preprocess") for shard in made]
    totals = total(found)
    manifest.clear(folder)
    write_text(folder / TABLE, _table(totals) + _examples(made))
    _plot(totals, folder / PLOT)
    manifest.commit(folder, causes, totals=totals)
    return folder


def total(manifests: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The counts of all shards, summed."""
    steps: dict[str, Counter[str]] = {}
    sums = {key: Counter[str]() for key in ("lines_dropped", "faults", "kept_whole")}
    for found in manifests:
        parts = {f"written: {part}": counts for part, counts in found["counts"].items()}
        for name, step in (found["steps"] | parts).items():
            steps.setdefault(name, Counter()).update(step)
        for key, counter in sums.items():
            counter.update(found[key])
    return {
        "steps": {name: dict(step) for name, step in sorted(steps.items(), key=_order)},
        **{key: dict(sorted(counter.items())) for key, counter in sums.items()},
    }


def _order(entry: tuple[str, Any]) -> int:
    """Where a step stands in table and plot."""
    order = ("read", "left out: empty", "normalised", "left out", "written")
    return next(
        i for prefix in sorted(order, key=len, reverse=True) if entry[0].startswith(prefix)
        for i in [order.index(prefix)]
    )  # fmt: skip


def _table(totals: Mapping[str, Any]) -> str:
    lines = ["# The corpus, step by step", "", "| step | documents | lines | characters |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, step in totals["steps"].items():
        figures = (f"{step.get(key, 0):,}" for key in ("documents", "lines", "characters"))
        lines.append(f"| {name} | {' | '.join(figures)} |")
    titles = {
        "lines_dropped": "Lines dropped, by reason",
        "faults": "Bad input passed over, by kind",
        "kept_whole": "Pieces of text that the segmenter was spared, by reason",
    }
    for key, title in titles.items():
        counted = {reason: count for reason, count in totals[key].items() if count}
        lines += ["", f"{title}: {', '.join(f'{r} {n:,}' for r, n in counted.items()) or 'none'}."]
    return "\n".join(lines) + "\n"


def _examples(made: Sequence[shards.Shard]) -> str:
    found = [example for shard in made for example in read_json(shard.folder / EXAMPLES)]
    lines = ["", "## Ten documents before and after", ""]
    for example in sorted(found, key=lambda example: example["rank"])[:_EXAMPLES]:
        after = f"left out: {example['left_out']}" if example["left_out"] else example["after"]
        lines += ["```", example["before"], "```", "", "```", after, "```", "", "---", ""]
    return "\n".join(lines)


def _head(lines: Sequence[str]) -> str:
    """The first characters of a text."""
    text = "\n".join(lines[:_SHOWN])[:_SHOWN]
    return text.replace("```", "'''")


def _plot(totals: Mapping[str, Any], path: Path) -> None:
    """A bar for each step, in characters."""
    from matplotlib.figure import Figure

    names = list(totals["steps"])
    sizes = [step.get("characters", 0) / 1e6 for step in totals["steps"].values()]
    colours = ["tab:red" if name.startswith("left out") else "tab:blue" for name in names]
    figure = Figure(figsize=(8, 0.5 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(names[::-1], sizes[::-1], color=colours[::-1])
    axes.set_xlabel("million characters")
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.margins(x=0.12)
    with atomic(path) as out:
        figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
