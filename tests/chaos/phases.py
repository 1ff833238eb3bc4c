"""The phase that a start of the training job is in, by what it has left on the disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kit.store.files import read_json

from .course import VALIDATE_EVERY

if TYPE_CHECKING:
    from kit.store.attempt_paths import Attempt
    from kit.store.paths import Run

PHASES = ("start-up", "step", "save", "validation")


class Watch:
    """Looks at the attempt of one start; cheap enough to be asked every few milliseconds."""

    def __init__(self, run: Run, token: str, steps: int) -> None:
        self._run = run
        self._token = token
        self._steps = steps
        self._attempt: Attempt | None = None
        self._read = 0  # bytes of the ledger
        self.start: dict[str, Any] = {}
        self.step = -1  # the last in the ledger; -1 while there is none
        self.validated = -1
        self.kinds: set[str] = set()  # of rows in the ledger

    @property
    def attempt(self) -> Attempt | None:
        """The attempt, once it is claimed."""
        if self._attempt is None:
            for attempt in reversed(self._run.claimed_attempts()):
                if attempt.start.is_file():
                    start = read_json(attempt.start)
                    if start["job"] == self._token:
                        self._attempt, self.start = attempt, start
                        self.validated = start.get("validated_step", -1)
                        break
        return self._attempt

    def phase(self) -> str:
        """One of PHASES."""
        self.look()
        if self.step < 0:
            return "start-up"
        if self.saving():
            return "save"
        due = self.step % VALIDATE_EVERY == 0 or self.step == self._steps
        return "validation" if due and self.validated < self.step else "step"

    def saving(self) -> bool:
        """Whether a checkpoint of this attempt is being written."""
        if self.attempt is None or not self._run.checkpoints.is_dir():
            return False
        mine = f".attempt-{self.attempt.number:04d}"
        names = [path.name for path in self._run.checkpoints.iterdir()]
        return any(name.startswith(".step-") and name.endswith(mine) for name in names)

    def look(self) -> None:
        """Read what is new in the ledger."""
        if self.attempt is None or not self.attempt.ledger.is_file():
            return
        with self.attempt.ledger.open("rb") as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                row = json.loads(line)
                self.kinds.add(row["kind"])
                if row["kind"] == "step":
                    self.step = row["step"]
                if row["kind"] == "validation":
                    self.validated = row["step"]
