"""Which runs come next: every rate for a variant at a size, then the seeds at its best rate.

The rule was fixed before the runs it made, and is the same for every variant and size. Each of RATES is
tried with seed 0 and scored on one half of the held-out documents. The best is trained with seeds from 1
on, scored on the other half: neither the seeds nor the documents of the evidence had a part in its choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.experiments.results import Run
from tests.experiments.variants import RATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Scores = Mapping[Run, float]  # bits per byte

SWEEP = 0  # the seed with which rates are compared; those of the evidence begin at 1


def following(
    scores: Scores, variants: Sequence[str], sizes: Sequence[str], seeds: int
) -> list[Run]:
    """The runs that can be trained now, in order; empty once all is done."""
    return [
        run
        for size in sizes
        for variant in variants
        for run in _of(scores, variant, size, seeds)
        if run not in scores
    ]


def best(scores: Scores, variant: str, size: str) -> float | None:
    """The best of the rates; None until all have been tried."""
    tried = {rate: scores.get(Run(variant, size, SWEEP, rate)) for rate in RATES}
    finished = {rate: score for rate, score in tried.items() if score is not None}
    if len(finished) < len(RATES):
        return None
    return min(finished, key=lambda rate: (finished[rate], rate))


def is_at_end(rate: float) -> bool:
    """Whether a rate is the lowest or the highest: one that was not tried may be better."""
    return rate in (RATES[0], RATES[-1])


def evidence(scores: Scores, variant: str, size: str) -> dict[int, Run]:
    """The finished runs of a variant at its best rate, by seed."""
    rate = best(scores, variant, size)
    return {
        run.seed: run
        for run in scores
        if (run.variant, run.size, run.rate) == (variant, size, rate) and run.seed != SWEEP
    }


def _of(scores: Scores, variant: str, size: str, seeds: int) -> Iterator[Run]:
    """The runs of a variant at a size, as far as they are known."""
    yield from (Run(variant, size, SWEEP, rate) for rate in RATES)
    rate = best(scores, variant, size)
    if rate is not None:
        yield from (Run(variant, size, SWEEP + 1 + seed, rate) for seed in range(seeds))
