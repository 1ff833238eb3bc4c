"""Paths of one attempt of the training job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Attempt:
    """The directory of one attempt of the training job."""

    root: Path

    @property
    def number(self) -> int:
        """The number of the attempt, from 1."""
        return int(self.root.name)

    @property
    def start(self) -> Path:
        """Job, addresses, placement of ranks and first step of the attempt."""
        return self.root / "start.json"

    @property
    def ledger(self) -> Path:
        """The rows of the attempt, one JSON object per line."""
        return self.root / "ledger.jsonl"

    def preflight(self, node: str) -> Path:
        """The checks of a node before the ranks met."""
        return self.root / f"preflight-{node}.json"

    @property
    def hang(self) -> Path:
        """The step that hung, if the attempt ended itself because of a hang."""
        return self.root / "hang.json"

    def flight_record(self, backend: str, rank: int | str) -> Path:
        """The last collectives of a rank, if the attempt ended because of a hang or of NCCL."""
        return self.root / f"flight-{backend}-rank-{rank}"

    @property
    def profiles(self) -> list[Path]:
        """The tables of the profiles of steps, in order; each names the trace beside it."""
        return sorted(self.root.glob("profile-*.json"))

    @property
    def end(self) -> Path:
        """The outcome of the attempt; absent after a crash."""
        return self.root / "end.json"
