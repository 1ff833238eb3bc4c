"""Training as the one unit of its stage: done with its last step, if that was not put off since."""

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
    """It has checkpoints in place of a manifest, and is never stale."""

    run: Run

    @classmethod
    def of(cls, run: Run) -> TrainingUnit:
        """That of a run."""
        return cls("training", run.checkpoints, _CAUSES, _make, run)

    @property
    def is_begun(self) -> bool:
        """Its attempts say so."""
        return False

    def states(self, *, verify: bool = False) -> tuple[manifest.State, ...]:
        """See `Unit`."""
        return ("done", "missing", "broken") if verify else ("done", "missing")

    def state(self, *, verify: bool = False) -> manifest.State:
        """See `Unit`; broken where a committed checkpoint has other bytes than were written."""
        if verify and self._damaged():
            return "broken"
        return "done" if self._is_done() else "missing"

    def faults(self, state: manifest.State, *, verify: bool = False) -> list[Fault]:  # noqa: ARG002
        """The damaged checkpoints."""
        return self._damaged() if state == "broken" else []

    def _damaged(self) -> list[Fault]:
        problems = [(one.folder.name, one.problem()) for one in checkpoint.committed(self.run)]
        return [Fault(name, "broken", problem) for name, problem in problems if problem]

    def _is_done(self) -> bool:
        attempts = ledger.attempts(self.run)
        ends = [end for attempt in attempts if (end := records.end(attempt))]
        last = [end["step"] for end in ends if end["outcome"] == "done"]
        made = {step for step, _ in self.run.committed_checkpoints().values()}
        if not last or last[-1] not in made:
            return False
        amended = amendments.since(self.run, records.start(attempts[-1]))
        return not any(row["key"] in amendments.END for row in amended)


def _make(folder: Path) -> Mapping[str, object]:
    raise AssertionError(f"{folder}: made by attempts")
