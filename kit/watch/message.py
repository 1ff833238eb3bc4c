"""A message of a guard: an alert that is raised, still holds or is resolved; the end of the run; a test."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from kit.store.paths import Run
    from kit.watch.detectors import Alert

Event = Literal["raised", "again", "resolved", "done", "test"]


@dataclass(frozen=True)
class Message:
    """A message that is due."""

    event: Event
    alert: Alert
    since: float  # Unix time

    def facts(self, run: Run, now: float) -> dict[str, Any]:
        """As JSON: the alert with its run, and all of it as text."""
        alert = self.alert
        since = "" if self.event in ("done", "test") else f"since {clock(self.since)}, "
        subject = f"{run.root.name}: {self._word()}: {alert.text}"
        return {
            "event": self.event,
            "run": run.root.name,
            "directory": str(run.root),
            "host": socket.gethostname(),
            "time": now,
            "since": self.since,
            "detector": alert.detector,
            "about": alert.about,
            "key": alert.key,
            "severity": alert.severity,
            "text": alert.text,
            "command": alert.command,
            "subject": subject,
            "message": f"{subject}\n{since}in {run.root}\n{alert.command}",
        }

    def _word(self) -> str:
        if self.event == "again":
            return f"still {self.alert.severity}"
        return self.alert.severity if self.event == "raised" else self.event


def clock(moment: float | None = None) -> str:
    """A Unix time, or now, as people write it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
