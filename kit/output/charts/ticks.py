"""Axes with ticks at round numbers, powers of ten, or round times of the clock."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from kit.output.charts.chart import Axis

if TYPE_CHECKING:
    from collections.abc import Callable

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_TIMES = (
    *(1, 2, 5, 10, 15, 30),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 5, 7, 14, 28, 56, 112, 365, 1825)),
)
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def numbers(
    title: str,
    low: float,
    high: float,
    number: int = 5,
    label: Callable[[float], str] | None = None,
) -> Axis:
    """An axis over these values with about that number of ticks at multiples of 1, 2 or 5."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) * 0.05, high + (abs(high) or 1.0) * 0.05
    step = _round_step((high - low) / number)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [step * n for n in range(first, last + 1)]
    return Axis(title, low, high, [(value, (label or short)(value)) for value in values])


def powers(title: str, low: float, high: float) -> Axis:
    """A logarithmic axis over positive values with ticks at 1, 2 and 5 times powers of ten."""
    high = max(high, low * 1.1)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(exponents) < 4 else (1,)
    values = [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
    ticks = [(value, short(value)) for value in values if low <= value <= high]
    return Axis(title, low, high, ticks, logarithmic=True)


def times(begin: float, end: float, number: int = 5) -> Axis:
    """An axis over Unix times with ticks at round times of this machine's zone."""
    end = max(end, begin + 1.0)
    step = next((one for one in _TIMES if (end - begin) / one <= number), _TIMES[-1])
    zone = time.localtime(begin).tm_gmtoff
    first = math.ceil((begin + zone) / step) * step - zone
    form = "%H:%M:%S" if step < _MINUTE else "%H:%M" if step < _DAY else "%m-%d"
    if end - begin > 300 * _DAY:
        form = "%Y-%m"
    ticks: list[tuple[float, str]] = []
    at = float(first)
    while at <= end:
        ticks.append((at, time.strftime(form, time.localtime(at))))
        at += step
    return Axis(_title_of_times(begin, end), begin, end, ticks)


def short(value: float) -> str:
    """A number as a label: `0`, `2.5`, `1.5M`, `2e-05`."""
    size = abs(value)
    if size < 1e-12:
        return "0"
    for unit, letter in _UNITS:
        if size >= unit * 0.9995:
            return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}" if size >= 1e-3 else f"{value:.3g}"


def _round_step(rough: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below a number."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.9999)


def _title_of_times(begin: float, end: float) -> str:
    first, last = (time.strftime("%Y-%m-%d", time.localtime(at)) for at in (begin, end))
    days = first if first == last else f"{first} to {last}"
    return f"{days}, {time.strftime('%Z', time.localtime(begin))}"
