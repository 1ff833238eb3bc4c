"""Which runs come next: first the learning rate of a variant at a size, then its seeds.

No variant is judged at a rate that suits another: its rates are powers of two, and the best of them counts
once the two on each side are worse; with one on each side, a sweep ended in a hollow at four times the best
rate. They are compared with a seed of their own, which is no evidence. A size without such a sweep takes
the rate of the size before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tests.experiments.results import Run
from tests.experiments.variants import FIRST_POWER, RATE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    Scores = Mapping[Run, float]  # bits per byte

SWEEP = 0  # the seed with which rates are compared; those of the evidence begin at 1


def following(
    scores: Scores,
    variants: Sequence[str],
    sizes: Sequence[str],
    swept: Collection[str],
    seeds: int,
) -> list[Run]:
    """The runs that can be trained now, in order; empty once all is done.

    `swept` are the sizes, the smallest among them, at which rates are compared.
    """
    return [
        run
        for place, size in enumerate(sizes)
        for variant in variants
        for run in _of(scores, variant, sizes[: place + 1], seeds, sweep=size in swept)
        if run not in scores
    ]


def best(scores: Scores, variant: str, sizes: Sequence[str]) -> float | None:
    """The best rate at the last of these sizes that was swept; None if none was."""
    found = (_best_at(scores, variant, size) for size in reversed(sizes))
    return next((rate for rate in found if rate is not None), None)


def is_swept(scores: Scores, variant: str, size: str) -> bool:
    """Whether the rate of a variant at a size was found there, not taken from the size before."""
    return _best_at(scores, variant, size) is not None


def evidence(scores: Scores, variant: str, sizes: Sequence[str]) -> dict[int, Run]:
    """The finished runs of a variant at the last of these sizes, at its best rate, by seed."""
    rate = best(scores, variant, sizes)
    return {
        run.seed: run
        for run in scores
        if (run.variant, run.size, run.rate) == (variant, sizes[-1], rate) and run.seed != SWEEP
    }


def _of(
    scores: Scores, variant: str, sizes: Sequence[str], seeds: int, *, sweep: bool
) -> Iterator[Run]:
    """The runs of a variant at the last of these sizes, as far as they are known."""
    rate = best(scores, variant, sizes[-1:] if sweep else sizes)
    if rate is not None:
        yield from (Run(variant, sizes[-1], SWEEP + 1 + seed, rate) for seed in range(seeds))
        return
    first = best(scores, variant, sizes[:-1]) if sizes[:-1] else RATE * 2.0**FIRST_POWER
    if sweep and first is not None:
        yield from (
            Run(variant, sizes[-1], SWEEP, rate)
            for rate in _around(scores, variant, sizes[-1], first)
        )


def _around(scores: Scores, variant: str, size: str, first: float) -> list[float]:
    """The best rate so far and two on each side; before there is one, those of the first."""
    tried = _tried(scores, variant, size)
    middle = min(tried, key=lambda rate: (tried[rate], rate)) if tried else first
    return [middle, middle / 2, middle * 2, middle / 4, middle * 4]


def _best_at(scores: Scores, variant: str, size: str) -> float | None:
    """The best rate of a sweep; None as long as one of those beside it was not tried."""
    tried = _tried(scores, variant, size)
    rate, *neighbours = _around(scores, variant, size, math.nan)
    return rate if tried.keys() >= {rate, *neighbours} and math.isfinite(tried[rate]) else None


def _tried(scores: Scores, variant: str, size: str) -> dict[float, float]:
    wanted = (variant, size, SWEEP)
    return {run.rate: scores[run] for run in scores if (run.variant, run.size, run.seed) == wanted}
