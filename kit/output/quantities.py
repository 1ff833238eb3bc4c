"""Quantities in readable form: counts with their noun, seconds, bytes, rates. Pure functions."""

from __future__ import annotations

import math

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 unit`, `2 units`, `1,234 units`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Seconds in the one or two largest units that matter: `0.03 s`, `95 s`, `4 min`, `2 d 3 h`."""
    if not math.isfinite(seconds):
        return "an unknown time"
    seconds = max(0.0, seconds)
    if seconds < 0.001:
        return "0 s"
    if seconds < 10:
        return f"{seconds:.2g} s" if round(seconds, 1) < 10 else "10 s"
    if round(seconds) < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return _two(*divmod(minutes, 60), "h", "min")
    return _two(*divmod(round(seconds / _HOUR), 24), "d", "h")


def size(number: float) -> str:
    """Bytes in decimal units, with three digits: `812 B`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:  # larger numbers round to 1 of the next unit
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.0f} TB" if number >= 999.5 else f"{number:.3g} TB"


def loss(nats: float | None) -> str:
    """A loss in nats per token; None, null in a ledger, is one that is not finite."""
    return "not finite" if nats is None else f"{nats:.3f}"


def rate(per_second: float, noun: str) -> str:
    """A rate per second, minute or hour, the first in which it is at least one: `1.5 steps/min`.

    Bytes (`B`) are given per second: `12.3 MB/s`.
    """
    if noun == "B":
        return f"{size(per_second)}/s"
    for unit, seconds in (("s", 1), ("min", _MINUTE)):
        if per_second * seconds >= 1:
            return f"{_short(per_second * seconds)} {noun}s/{unit}"
    return f"{_short(per_second * _HOUR)} {noun}s/h"


def _two(large: int, small: int, large_unit: str, small_unit: str) -> str:
    tail = f" {small} {small_unit}" if small else ""
    return f"{large:,} {large_unit}{tail}"


def _short(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:,.0f}"
