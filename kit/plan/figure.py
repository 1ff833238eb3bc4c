"""A figure of a plan: a value beside its source."""

from __future__ import annotations

from typing import Any


def figure(value: Any, source: str, *, so: str = "") -> dict[str, Any]:
    """A value, and where it is from; of an unknown one `so` says what is missing: `are the steps`."""
    if value is None and so:
        source = f"unknown: so {so}; {source}"
    return {"value": value, "source": source}
