"""A figure of a plan: a value beside its source."""

from __future__ import annotations

from typing import Any


def figure(value: Any, source: str) -> dict[str, Any]:
    """A value, and where it is from."""
    return {"value": value, "source": source}
