"""Measurements, counts and a number of tokens that are given to a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.plan.disk import Room

BUDGET = 150e9  # tokens of the article's run: ten epochs


@dataclass(frozen=True)
class Budget:
    """Tokens of the whole run, repeats counted, in place of the recipe's length."""

    tokens: float = BUDGET
    given: bool = False  # else assumed, for a recipe whose length is not known yet


@dataclass(frozen=True)
class Known:
    """Measurements and counts that exist already."""

    rehearsed: dict[str, Any] | None = None  # `measure` of kit/relay/rehearsal.py
    not_rehearsed: str = "not rehearsed on this cluster"  # why it is None
    training_tokens: int | None = None
    budget: Budget | None = None
    on_disk: dict[str, int] | None = None  # bytes of stages and of the run that have files, by name
    room: Sequence[Room] = ()  # of the disk
    node_memory: tuple[float, str] | None = None  # bytes, and who says so
