"""A run whose files are written by hand, with times that are known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.load import load_cluster
from kit.store.files import write_json

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.paths import Run, Workspace

T = 1_700_000_000.0  # Unix time of the first submission
_DEFAULTS: dict[str, dict[str, Any]] = {
    "checkpoint": {"bytes": 1000},
    "validation": {"validation_loss": 1.0},
}


def crashed(workspace: Workspace, recipe: Recipe) -> Run:
    """A run directory with that recipe, whose training has failed for good."""
    run = workspace.run(recipe.name)
    write_json(run.recipe, recipe.model_dump(mode="json"))
    write_json(run.cluster, load_cluster("local", Path(), []).model_dump(mode="json"))
    written = Written(run)
    written.start(1, 0)
    written.steps(1, 0, range(1, 4))
    written.decide(1, 300, "crash (exit code 1), 4 times", requeued=False)
    return run


class Written:
    """A run whose files are written with times given in seconds from its first submission."""

    def __init__(self, run: Run, begin: float = T) -> None:
        self.run, self._begin = run, begin
        write_json(run.identity, {"id": "a", "name": "r", "time": begin})

    def start(
        self, number: int, at: float, from_step: int = 0, ranks: int = 2, **times: float
    ) -> None:
        start = {"job": f"17.{number - 1}", "ranks": ranks, "from_step": from_step,
                 "time": self._begin + at, "amendments": 0,
                 "times": {name: self._begin + time for name, time in times.items()}}  # fmt: skip
        write_json(self.run.attempt(number).start, start)

    def row(self, number: int, kind: str, at: float, **fields: Any) -> None:
        row = {"kind": kind, "attempt": number, "time": self._begin + at, **fields}
        row = {**_DEFAULTS.get(kind, {}), **row}
        with self.run.attempt(number).ledger.open("a") as ledger:
            ledger.write(json.dumps(row) + "\n")

    def steps(self, number: int, at: float, steps: range, seconds: float = 10.0) -> float:
        """Steps one after the other; returns when the last has ended."""
        for step in steps:
            at += seconds
            self.row(number, "step", at, step=step, seconds=seconds, loss=1.0)
        return at

    def decide(self, number: int, at: float, reason: str, *, requeued: bool = True) -> None:
        row = {"time": self._begin + at, "job": f"17.{number - 1}", "name": "train", "requeued": requeued,
               "reason": reason, "progress": [1, 1]}  # fmt: skip
        with self.run.requeues.open("a") as lines:
            lines.write(json.dumps(row) + "\n")

    def hang(self, number: int, at: float, seconds: float) -> None:
        path = self.run.attempt(number).hang
        write_json(path, {"job": f"17.{number - 1}", "rank": 1, "what": "s", "seconds": seconds})
        os.utime(path, (self._begin + at, self._begin + at))

    def end(self, number: int, at: float, step: int, outcome: str = "interrupted") -> None:
        result = {"outcome": outcome, "reason": "", "step": step, "saved": step}
        self.row(number, "end", at, **result)
        end = {"job": f"17.{number - 1}", "time": self._begin + at, **result}
        write_json(self.run.attempt(number).end, end)

    def saved(self, step: int, attempt: int) -> None:
        self.run.checkpoint(step, attempt).mkdir(parents=True)


def two_attempts(run: Run, reason: str) -> Written:
    """Two attempts: the first ended after 40 steps, of which 3 are lost; the second is at step 60."""
    written = Written(run)
    written.start(1, 100)
    written.row(1, "attempt", 150, step=0)
    written.steps(1, 150, range(1, 41))
    written.row(1, "checkpoint", 530, step=37, seconds=5.0, blocked=1.0, bytes=1000)
    written.saved(37, 1)
    written.decide(1, 560, reason)
    written.start(2, 900, 37)
    written.row(2, "attempt", 950, step=37)
    written.row(2, "validation", 960, step=37, seconds=10.0, validation_loss=1.5)
    written.steps(2, 960, range(38, 61))
    return written
