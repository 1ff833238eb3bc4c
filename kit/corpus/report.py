"""The report on a corpus: a table and a plot of the text kept and dropped by each step, and ten
documents before and after. It is made from the manifests of all shards once the last is done.
"""

from __future__ import annotations

import bisect
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from kit.corpus import exclusion
from kit.data import shards
from kit.store import manifest
from kit.store.files import atomic, read_json, write_text
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.recipe import Recipe

EXAMPLES = "examples.json"
TABLE, PLOT = "report.md", "report.png"
VERSION = 3  # raise when the same shards give another report
_EXAMPLES = 10
_TEMPLATES = 30  # names to print
_EXAMPLE_CHARACTERS = 400  # before and after
# Without it the examples would be held-out documents, which have the smallest keys.
_SALT = 0x9E3779B97F4A7C15


class Example(TypedDict):
    """A document in `examples.json` of a shard."""

    rank: str  # the salted key, 16 hexadecimal digits
    before: str
    after: str  # segmented
    left_out: str | None  # the name of the step


class Total(TypedDict):
    """The counts of all shards; all but the steps by reason, kind or name."""

    steps: dict[str, dict[str, int]]
    lines_dropped: dict[str, int]
    faults: dict[str, int]
    kept_whole: dict[str, int]
    wikipedia: dict[str, dict[str, int]]  # see kit/corpus/dump/tally.py


class Examples:
    """The ten documents of a unit with the smallest salted keys, in effect drawn at random."""

    def __init__(self) -> None:
        self._ranked: list[tuple[int, Example]] = []

    def offer(self, key: int, raw: Sequence[str], text: str, left_out: str | None) -> None:
        """Take a document if its key (64 bits) is small enough.

        `raw` are its lines, `text` its segmented sentences, `left_out` the step that dropped it.
        """
        rank = key ^ _SALT
        if len(self._ranked) == _EXAMPLES and rank >= self._ranked[-1][0]:
            return
        example: Example = {
            "rank": f"{rank:016x}",
            "before": _head(raw),
            "after": text[:_EXAMPLE_CHARACTERS].replace("```", "'''"),
            "left_out": left_out,
        }
        bisect.insort(self._ranked, (rank, example), key=lambda entry: entry[0])
        del self._ranked[_EXAMPLES:]

    def sample(self) -> list[Example]:
        """The examples, smallest rank first."""
        return [example for _, example in self._ranked]


def make(recipe: Recipe) -> Path:
    """Write the report, unless it is up to date with the shards; returns its folder.

    Raises StageError if a shard is missing.
    """
    folder = Workspace(Path(recipe.workspace)).corpus_report
    complete = shards.complete(recipe)
    causes = manifest.causes("corpus-report", VERSION, {}, {s.name: s.causes for s in complete})
    if manifest.state(folder, causes) == "done":
        return folder
    manifests = [manifest.read(shard.folder, "jobs.preprocess") for shard in complete]
    totals = total(manifests)
    manifest.clear(folder)
    text = _table(totals) + exclusion.summary(recipe, manifests) + _examples(complete)
    write_text(folder / TABLE, text)
    _plot(totals, folder / PLOT)
    manifest.commit(folder, causes, totals=totals)
    return folder


def total(manifests: Sequence[Mapping[str, Any]]) -> Total:
    """Sum the counts of all shards."""
    steps: dict[str, Counter[str]] = {}
    lines_dropped, faults, unsegmented = Counter[str](), Counter[str](), Counter[str]()
    wikipedia: dict[str, Counter[str]] = {}
    for shard in manifests:
        parts = {f"written: {part}": counts for part, counts in shard["counts"].items()}
        for name, step in (shard["steps"] | parts).items():
            steps.setdefault(name, Counter()).update(step)
        lines_dropped.update(shard["lines_dropped"])
        faults.update(shard["faults"])
        unsegmented.update(shard["kept_whole"])
        for name, counted in shard.get("wikipedia", {}).items():
            wikipedia.setdefault(name, Counter()).update(counted)
    return {
        "steps": {name: dict(step) for name, step in sorted(steps.items(), key=order)},
        "lines_dropped": dict(sorted(lines_dropped.items())),
        "faults": dict(sorted(faults.items())),
        "kept_whole": dict(sorted(unsegmented.items())),
        "wikipedia": {name: dict(counted.most_common()) for name, counted in wikipedia.items()},
    }


def order(entry: tuple[str, Any]) -> int:
    """The position of a step, given with its name first, in table and plot."""
    before = ("left out: removed", "left out: urls.", "left out: empty")
    steps = ("read", *before, "normalised", "left out", "written")
    return next(
        i for prefix in sorted(steps, key=len, reverse=True) if entry[0].startswith(prefix)
        for i in [steps.index(prefix)]
    )  # fmt: skip


def _table(totals: Total) -> str:
    lines = ["# The corpus, step by step", "", "| step | documents | lines | characters |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, step in totals["steps"].items():
        figures = (f"{step.get(key, 0):,}" for key in ("documents", "lines", "characters"))
        lines.append(f"| {name} | {' | '.join(figures)} |")
    sums = {
        "Lines dropped, by reason": totals["lines_dropped"],
        "Bad input skipped, by kind": totals["faults"],
        "Text left unsegmented, by reason": totals["kept_whole"],
    }
    for title, counts in sums.items():
        counted = {reason: count for reason, count in counts.items() if count}
        lines += ["", f"{title}: {', '.join(f'{r} {n:,}' for r, n in counted.items()) or 'none'}."]
    return "\n".join([*lines, *_wikipedia(totals["wikipedia"])]) + "\n"


def _wikipedia(totals: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Parts of articles that were kept and left out, and the most frequent templates without a text."""
    titles = {
        "counts": "Wikipedia",
        "templates": "Templates without a text, within lines",
        "boxes": "Templates without a text, on lines of their own",
    }
    lines = []
    for key, title in titles.items():
        counted = [f"{name} {number:,}" for name, number in totals.get(key, {}).items() if number]
        more = f" and {len(counted) - _TEMPLATES:,} more" if len(counted) > _TEMPLATES else ""
        if counted:
            lines += ["", f"{title}: {', '.join(counted[:_TEMPLATES])}{more}."]
    return lines


def _examples(complete: Sequence[shards.Shard]) -> str:
    examples: list[Example] = [
        example for shard in complete for example in read_json(shard.folder / EXAMPLES)
    ]
    lines = ["", "## Ten documents before and after", ""]
    for example in sorted(examples, key=lambda example: example["rank"])[:_EXAMPLES]:
        after = f"left out: {example['left_out']}" if example["left_out"] else example["after"]
        lines += ["```", example["before"], "```", "", "```", after, "```", "", "---", ""]
    return "\n".join(lines)


def _head(lines: Sequence[str]) -> str:
    """The first characters of a text."""
    text = "\n".join(lines[:_EXAMPLE_CHARACTERS])[:_EXAMPLE_CHARACTERS]
    return text.replace("```", "'''")


def _plot(totals: Total, path: Path) -> None:
    """Draw a bar for each step, in characters."""
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
