"""The comparisons as a table: means over the seeds, their difference, and whether it counts."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.experiments import plan
from tests.experiments.statistics import holm, paired
from tests.experiments.variants import BASELINE, COMPARISONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.experiments.results import Row, Run
    from tests.experiments.variants import Comparison

LEVEL = 0.01  # of p after Holm's correction, for a claim
_HEAD = (
    "comparison", "size", "seeds", "ours", "theirs", "difference", "t", "p", "Holm", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A variant at a size: its rate, and its bits per byte over the seeds."""

    name: str
    rate: float
    mean: float
    deviation: float  # standard, of the sample
    at_end: bool  # whether no lower, or no higher rate was tried


@dataclass(frozen=True)
class Line:
    """A comparison at a size."""

    comparison: str
    size: str
    seeds: int
    ours: Side
    theirs: Side
    difference: float  # theirs - ours, in bits per byte
    t: float
    p: float
    holm: float  # p corrected for the number of lines
    verdict: str


def lines(rows: Iterable[Row], sizes: Sequence[str]) -> list[Line]:
    """The comparisons of which two seeds or more are there, on both sides."""
    known = {row.run: row for row in rows}
    found = [
        line
        for comparison in COMPARISONS
        for size in sizes
        if (line := _line(known, comparison, size)) is not None
    ]
    corrected = holm([line["p"] for line in found])
    return [
        Line(**line, holm=value, verdict=_verdict(line, value))
        for line, value in zip(found, corrected, strict=True)
    ]


def text(made: Sequence[Line]) -> str:
    """The table in Markdown."""
    cells = [_HEAD, ["---"] * len(_HEAD), *map(_cells, made)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def swept(rows: Iterable[Row], sizes: Sequence[str]) -> str:
    """The rates that were tried with the seed of the sweep: a line for each variant and size."""
    tried: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        if row.run.seed == plan.SWEEP and row.run.size in sizes:
            tried.setdefault((row.run.variant, row.run.size), {})[row.run.rate] = row.bits_per_byte
    return "\n".join(_rates(*key, scores) for key, scores in sorted(tried.items()))


def _line(rows: Mapping[Run, Row], comparison: Comparison, size: str) -> dict[str, Any] | None:
    scores = {run: row.bits_per_byte for run, row in rows.items()}
    names = (BASELINE, comparison.variant)
    runs = [plan.evidence(scores, name, size) for name in names]
    seeds = sorted(runs[0].keys() & runs[1].keys())
    if len(seeds) < 2:
        return None
    ours, theirs = ([_score(rows[by_seed[s]], comparison) for s in seeds] for by_seed in runs)
    rates = [by_seed[seeds[0]].rate for by_seed in runs]
    test = paired(ours, theirs)
    return {
        "comparison": comparison.name,
        "size": size,
        "seeds": len(seeds),
        "ours": _side(comparison.ours, rates[0], ours),
        "theirs": _side(comparison.theirs, rates[1], theirs),
        "difference": test.difference,
        "t": test.t,
        "p": test.p,
    }


def _score(row: Row, comparison: Comparison) -> float:
    return row.charged if comparison.charged else row.bits_per_byte


def _side(name: str, rate: float, scores: Sequence[float]) -> Side:
    finite = all(map(math.isfinite, scores))
    deviation = statistics.stdev(scores) if finite else math.nan
    return Side(name, rate, statistics.fmean(scores), deviation, plan.is_at_end(rate))


def _verdict(line: dict[str, Any], corrected: float) -> str:
    if not math.isfinite(line["difference"]):
        return "a run diverged"
    if corrected >= LEVEL:
        return "no difference shown"
    better, worse = line["ours"], line["theirs"]
    if line["difference"] < 0:
        better, worse = worse, better
    if worse.at_end:
        return f"not comparable: the best rate of {worse.name} is an end of the grid"
    return f"{better.name} better at p < {LEVEL}"


def _cells(line: Line) -> Iterator[str]:
    yield from (line.comparison, line.size, str(line.seeds))
    yield from (
        f"{side.name} {side.mean:.4f} ± {side.deviation:.4f}" for side in (line.ours, line.theirs)
    )
    yield f"{line.difference:+.4f} ({line.difference / line.ours.mean:+.2%})"
    yield from (f"{line.t:+.1f}", f"{line.p:.2g}", f"{line.holm:.2g}", line.verdict)


def _rates(variant: str, size: str, scores: dict[float, float]) -> str:
    best = min(scores, key=scores.__getitem__)
    tried = (
        f"{rate:g}: {score:.4f}{' *' if rate == best else ''}"
        for rate, score in sorted(scores.items())
    )
    return f"{variant}, {size}: " + ", ".join(tried)
