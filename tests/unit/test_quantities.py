"""Quantities as people write them."""

from __future__ import annotations

import math

import pytest

from kit.output import quantities


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 units"), (1, "1 unit"), (2, "2 units"), (1234, "1,234 units")]
)
def test_a_count_has_its_plural(number: int, text: str) -> None:
    assert quantities.count(number, "unit") == text


def test_a_plural_of_its_own_is_taken() -> None:
    assert quantities.count(2, "try", "tries") == "2 tries"
    assert quantities.count(1, "try", "tries") == "1 try"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.00004, "0 s"),
        (0.031, "0.031 s"),
        (3.44, "3.4 s"),
        (9.96, "10 s"),
        (59.7, "60 s"),
        (95, "95 s"),
        (119.6, "2 min"),
        (240, "4 min"),
        (3599, "1 h"),
        (3660, "1 h 1 min"),
        (86_399, "1 d"),
        (2 * 86_400 + 3 * 3600 + 60, "2 d 3 h"),
        (1e8, "1,157 d 10 h"),
        (math.inf, "an unknown time"),
        (math.nan, "an unknown time"),
    ],
)
def test_a_duration_has_the_two_units_that_say_something(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999.97, "1 kB"),
        (10_700_000, "10.7 MB"),
        (1.2e9, "1.2 GB"),
        (999_700_000, "1 GB"),
        (429_000_000, "429 MB"),
        (3e16, "30,000 TB"),
    ],
)
def test_a_size_is_in_units_of_a_thousand(number: float, text: str) -> None:
    assert quantities.size(number) == text


@pytest.mark.parametrize(
    ("per_second", "noun", "text"),
    [
        (12_345_678, "B", "12.3 MB/s"),
        (1234.4, "token", "1,234 tokens/s"),
        (2.25, "unit", "2.2 units/s"),
        (0.5, "unit", "30 units/min"),
        (0.001, "unit", "3.6 units/h"),
    ],
)
def test_a_rate_is_by_the_time_in_which_something_is_done(
    per_second: float, noun: str, text: str
) -> None:
    assert quantities.rate(per_second, noun) == text
