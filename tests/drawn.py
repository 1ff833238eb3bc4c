"""Attempts that write their ledger and their event file, on a clock of their own."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from kit.store.files import write_json
from kit.tracking import ledger, node_time
from kit.tracking.tensorboard import EventFile

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.paths import Run

RANKS = 2


class Attempt:
    """An attempt that writes its ledger and its event file, on a clock of its own."""

    def __init__(self, run: Run, recipe: Recipe, number: int, from_step: int) -> None:
        self.place = run.attempt(number)
        self.place.root.mkdir(parents=True)
        start = {"from_step": from_step, "time": 1_000.0 * number, "job": f"job.{number}"}
        write_json(self.place.start, start | {"ranks": RANKS, "node": "here"})
        self._clock = itertools.count(1_000.0 * number + 10, 2.0)
        self._book = ledger.Ledger(self.place)
        self._events = EventFile(run, recipe, self.place)
        before = node_time.before(run, self.place)
        self.add(
            "attempt",
            step=from_step,
            kept_seconds=before.kept_seconds,
            held_seconds=before.held_seconds,
            lost_steps=before.lost_steps,
        )

    def add(self, kind: str, **fields: Any) -> None:
        add: Any = self._book.add
        row = add(kind, **fields)
        lines = self.place.ledger.read_text().splitlines()
        row["time"] = next(self._clock)
        self.place.ledger.write_text(
            "".join(f"{line}\n" for line in [*lines[:-1], json.dumps(row)])
        )
        self._events.add(row)

    def steps(self, steps: range, validations: tuple[int, ...] = ()) -> Attempt:
        for step in steps:
            loss = self.place.number + step / 100
            self.add("step", step=step, loss=loss, learning_rate=0.1, tokens=step * 8, seconds=2.0)
            if step in validations:
                for prompt in ("駅伝は", "今日は"):
                    self.add("sample", step=step, prompt=prompt, text=f"{prompt}`{step}`")
                self.add(
                    "validation",
                    step=step,
                    validation_loss=loss,
                    bits_per_byte=loss / 3,
                    seconds=1.0,
                )
        return self

    def killed(self) -> None:
        """Its rows so far are in the file, which is never closed."""
        self._events.flush()

    def left(self, step: int, outcome: str = "interrupted", reason: str = "SIGTERM") -> None:
        result = {"outcome": outcome, "reason": reason, "step": step, "saved": step}
        self.add("end", **result)
        write_json(
            self.place.end, {**result, "job": f"job.{self.place.number}", "time": next(self._clock)}
        )
        self._book.close()
        self._events.close()
