"""Training as the single unit of its stage: done at its last step, unless an amendment has moved it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.config import amendments
from kit.store import records
from kit.store.units import Fault, Unit
from kit.tracking import ledger
from kit.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kit.store import manifest
    from kit.store.paths import Run
    from kit.store.records import Causes


_CAUSES: Causes = {"stage": "train", "version": 0, "section": {}, "inputs": {}}  # none to compare


@dataclass(frozen=True)
class TrainingUnit(Unit):
    """The unit of the training stage: it has checkpoints instead of a manifest, and is never stale."""

    run: Run

    @classmethod
    def for_run(cls, run: Run) -> TrainingUnit:
        """The unit of a run."""
        return cls("training", run.checkpoints, _CAUSES, _make, run)

    @property
    def is_begun(self) -> bool:
        """Always False: the run's attempts show whether it has begun."""
        return False

    def states(self, *, verify: bool = False) -> tuple[manifest.State, ...]:
        """See `Unit`."""
        return ("done", "missing", "broken") if verify else ("done", "missing")

    def state(self, *, verify: bool = False) -> manifest.State:
        """See `Unit`; broken if the files of a committed checkpoint have changed."""
        if verify and self._damaged():
            return "broken"
        return "done" if self._is_done() else "missing"

    def faults(self, state: manifest.State, *, verify: bool = False) -> list[Fault]:  # noqa: ARG002
        """The damaged checkpoints."""
        return self._damaged() if state == "broken" else []

    def _damaged(self) -> list[Fault]:
        problems = [(c.folder.name, c.problem()) for c in checkpoint.committed(self.run)]
        return [Fault(name, "broken", problem) for name, problem in problems if problem]

    def _is_done(self) -> bool:
        attempts = ledger.attempts(self.run)
        ends = [end for attempt in attempts if (end := records.end(attempt))]
        last = [end["step"] for end in ends if end["outcome"] == "done"]
        committed_steps = {step for step, _ in self.run.committed_checkpoints().values()}
        if not last or last[-1] not in committed_steps:
            return False
        amended = amendments.since(self.run, records.start(attempts[-1]))
        return not any(row["key"] in amendments.END for row in amended)


def _make(folder: Path) -> Mapping[str, object]:
    raise AssertionError(f"{folder}: attempts make checkpoints, not units")
