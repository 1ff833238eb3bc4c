"""Whether two variants differ, by a t-test of pairs with the same seed.

A pair has the same initial seed and the same order of data, so that the test is about the differences.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Paired:
    """The mean of the differences theirs - ours, and how far it is from 0."""

    difference: float
    t: float
    p: float  # two-sided


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Paired:
    """Student's t-test of at least two pairs; nothing is shown if one of them is not finite."""
    differences = [b - a for a, b in zip(ours, theirs, strict=True)]
    if not all(map(math.isfinite, differences)):
        return Paired(math.nan, math.nan, 1.0)
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
    return Paired(mean, t, two_sided(t, len(differences) - 1))


def two_sided(t: float, degrees: int) -> float:
    """The probability that |T| >= |t|, for Student's T with a whole number of degrees of freedom.

    A finite series: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan2(abs(t), math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = total = cosine if degrees % 2 else 1.0
    if degrees == 1:
        total = 0.0
    for k in range(2 + degrees % 2, degrees - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + sine * total) if degrees % 2 else sine * total
    return max(0.0, 1.0 - inside)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the same order: Holm (1979), step-down Bonferroni."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, largest = [0.0] * len(values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = largest
    return corrected
