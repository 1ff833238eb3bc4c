"""The finished runs, one JSON line each: an interrupted experiment computes none of them again.

A row counts as long as its causes are those of today: the recipe of its run and the tokens.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from kit.store.files import append_line

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Run:
    """A run to train: one variant at one size, with its seed and peak learning rate."""

    variant: str
    size: str
    seed: int
    rate: float


@dataclass(frozen=True)
class Row:
    """A finished run, and what it scored on the held-out documents."""

    run: Run
    causes: str
    bits_per_byte: float  # infinite if the run diverged
    charged: float  # the same with the white space that the tokenizer drops
    parameters: int
    tokens: int
    seconds: float  # of processor time


def append(path: Path, row: Row) -> None:
    """Add a finished run; on disk when this returns."""
    append_line(path, json.dumps(asdict(row)))


def read(path: Path) -> list[Row]:
    """The finished runs. A line that an interruption cut short is left out: its run comes again."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            tree = json.loads(line)
            rows.append(Row(**(tree | {"run": Run(**tree["run"])})))
    return rows
