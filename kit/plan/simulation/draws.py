"""Random numbers as a function of a seed, a stream, a run and a number: no generator has a state.

    draws = Draws(seed=0)
    draws.uniform("failures", runs, numbers)     # numbers[i] of the stream "failures" in runs[i]

So two simulations that differ in one condition meet the same failures and the same queue times, and the
difference between them is not drowned in chance (common random numbers: Law, Simulation Modeling and
Analysis, 5th ed. 2015, section 11.2). The mixing function is that of SplitMix64 (Steele, Lea and Flood,
OOPSLA 2014, figure 17), applied to seed and stream, to the run, and to the number in turn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Words = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


@dataclass(frozen=True)
class Draws:
    """All draws of a seed."""

    seed: int = 0

    def uniform(self, stream: str, runs: Integers, numbers: Integers) -> Floats:
        """Values of (0, 1), one for each run and its number."""
        of_runs = _mixed(self._key(stream) + runs.astype(np.uint64) * _GAMMA)
        words = _mixed(of_runs + numbers.astype(np.uint64) * _GAMMA)
        return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def exponential(self, stream: str, runs: Integers, numbers: Integers) -> Floats:
        """Values of the exponential distribution with mean 1."""
        return -np.log(self.uniform(stream, runs, numbers))

    def normal(self, stream: str, runs: Integers, numbers: Integers) -> Floats:
        """Values of the standard normal distribution (Box and Muller 1958)."""
        angle = 2.0 * np.pi * self.uniform(f"{stream}.angle", runs, numbers)
        return np.sqrt(2.0 * self.exponential(stream, runs, numbers)) * np.cos(angle)

    def _key(self, stream: str) -> np.uint64:
        text = f"{self.seed}.{stream}".encode()
        return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


def _mixed(words: Words) -> Words:
    words = (words ^ (words >> _SHIFTS[0])) * _FIRST
    words = (words ^ (words >> _SHIFTS[1])) * _SECOND
    return words ^ (words >> _SHIFTS[2])
