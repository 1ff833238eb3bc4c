"""Paths of what watches runs: an MLflow server of a workspace, the guards of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ServerFiles:
    """A server's files in the workspace: its databases are on a disk of its host."""

    root: Path

    @property
    def record(self) -> Path:
        """The host that runs the server; touched while it does."""
        return self.root / "server.json"

    @property
    def database(self) -> Path:
        """The backup of the runs."""
        return self.root / "mlflow.db"

    @property
    def users(self) -> Path:
        """The backup of users and their passwords, as hashes."""
        return self.root / "users.db"


@dataclass(frozen=True)
class GuardFiles:
    """What the guards of a run share."""

    root: Path

    @property
    def state(self) -> Path:
        """The alerts that hold, and when each was last reported."""
        return self.root / "guard.json"

    @property
    def heartbeat(self) -> Path:
        """A file that is touched by each look that saw the run."""
        return self.root / "guard.heartbeat"

    @property
    def lock(self) -> Path:
        """Held by the guard that is delivering messages."""
        return self.root / "guard.lock"
