"""How an attempt ends: the words of `end.json`, and the way out of the loop."""

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
    def of(cls, reason: Reason) -> Ending:
        """That of an interruption."""
        return cls(reason.outcome, reason.text)


class Leave(Exception):  # noqa: N818  a way out, and no error
    """Raised on every rank at the same place, where the loop ends before its last step."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


def fail(reason: str) -> Leave:
    """The way out of a run that is not to be tried again."""
    return Leave(Ending("failed", reason))
