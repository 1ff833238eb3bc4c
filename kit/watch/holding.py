"""Which alerts hold, since when, and which of them are due to be reported: once, and again after an hour.

    holding, due = holding.after(found, now, repeat=3600.0)
    for message in due:
        if sent(message):
            holding = holding.delivered(message, now)

A `Holding` is a pure value that goes from look to look as JSON, so that looks of several processes count as
those of one guard. An alert that could not be delivered stays due.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kit.watch.detectors import Alert
from kit.watch.message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLEAR = 600.0  # seconds without it until an alert counts as resolved: it may come and go


@dataclass(frozen=True)
class Held:
    """An alert that holds."""

    alert: Alert
    since: float  # Unix time of the first look that saw it
    seen: float  # of the last one
    reported: float | None = None  # of its last delivery; None: not delivered


@dataclass(frozen=True)
class Holding:
    """The state of a guard between two looks."""

    time: float = 0.0  # Unix time of the last look; 0: there was none
    sighted: float = 0.0  # of the last one that could see
    step: int | None = None  # the last step seen
    done: bool = False  # whether the end of the run has been reported
    held: Mapping[str, Held] = field(default_factory=dict)  # by the alert's key

    def after(
        self, found: Sequence[Alert], now: float, repeat: float, *, blind: bool = False
    ) -> tuple[Holding, list[Message]]:
        """The state after a look, and the messages that are due.

        `repeat` is in seconds. A `blind` look saw only a part: what it did not find still holds, and is
        not reported again.
        """
        held = {key: replace(one, seen=now) if blind else one for key, one in self.held.items()}
        for alert in found:
            since, reported = now, None
            if before := self.held.get(alert.key):
                since, reported = before.since, before.reported
            held[alert.key] = Held(alert, since, now, reported)
        cleared = [one for one in held.values() if now - one.seen >= CLEAR]
        due = [
            message for alert in found if (message := _message(held[alert.key], now, repeat))
        ] + [
            Message("resolved", one.alert, one.since) for one in cleared if one.reported is not None
        ]
        for one in cleared:
            if one.reported is None:  # nobody knows of it
                del held[one.alert.key]
        sighted = self.sighted if blind and self.sighted else now
        return replace(self, time=now, sighted=sighted, held=held), due

    def delivered(self, message: Message, now: float) -> Holding:
        """The state after a message has arrived."""
        if message.event == "done":
            return replace(self, done=True)
        held = dict(self.held)
        one = held.pop(message.alert.key)
        if message.event != "resolved":
            held[message.alert.key] = replace(one, reported=now)
        return replace(self, held=held)

    def since(self) -> dict[str, float]:
        """Unix time from which each alert holds, by its key."""
        return {key: one.since for key, one in self.held.items()}

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Holding:
        """From JSON. Raises KeyError or TypeError if it is none of `facts`."""
        held = {
            key: Held(**{**one, "alert": Alert(**one["alert"])})
            for key, one in facts["held"].items()
        }
        return cls(**{**facts, "held": held})


def _message(one: Held, now: float, repeat: float) -> Message | None:
    """The message about an alert that was just seen; None if it has been reported lately."""
    if one.reported is None:
        return Message("raised", one.alert, one.since)
    if one.alert.repeats and abs(now - one.reported) >= repeat:  # a clock may be wrong
        return Message("again", one.alert, one.since)
    return None
