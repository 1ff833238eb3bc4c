"""End of an attempt: the outcome and reason in `end.json`, and the exception that leaves the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.store.records import Outcome
    from kit.training.interruption import Reason


@dataclass(frozen=True)
class Ending:
    """Why the loop ends."""

    outcome: Outcome
    reason: str = ""

    @classmethod
    def from_reason(cls, reason: Reason) -> Ending:
        """The ending of an interrupted attempt."""
        return cls(reason.outcome, reason.text)


class Leave(Exception):  # noqa: N818  control flow, not an error
    """Raised on every rank at the same point to leave the loop before its last step."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


def fail(reason: str) -> Leave:
    """The exception that ends a run which must not be retried."""
    return Leave(Ending("failed", reason))
