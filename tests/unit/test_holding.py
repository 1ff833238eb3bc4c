"""The alerts that a guard reports over many looks: once, again after an hour, and when resolved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kit.watch.detectors import Alert
from kit.watch.holding import CLEAR, Holding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOK, HOUR = 60.0, 3600.0
SLOW = Alert("slow", "warning", "slow", "look")


def reports(
    found: Callable[[int], Sequence[Alert]], looks: int, *, blind: Callable[[int], bool] = bool
) -> list[tuple[int, str]]:
    """Number and event of each message over looks a minute apart; each arrives."""
    holding, told = Holding(), []
    for look in range(looks):
        holding, due = holding.after(found(look), look * LOOK, HOUR, blind=blind(look))
        for message in due:
            holding = holding.delivered(message, look * LOOK)
            told.append((look, message.event))
        holding = Holding.of(json.loads(json.dumps(holding.facts())))
    return told


def test_an_alert_that_comes_and_goes_counts_as_one() -> None:
    told = reports(lambda look: [SLOW] if look % 2 else [], 70, blind=lambda _: False)
    assert told == [(1, "raised"), (61, "again")]


def test_an_alert_is_resolved_once_it_has_stayed_away() -> None:
    clear = 5 + int(CLEAR / LOOK)
    told = reports(
        lambda look: [SLOW] if look <= 5 or look == clear + 3 else [], 30, blind=lambda _: False
    )
    assert told == [(0, "raised"), (clear, "resolved"), (clear + 3, "raised"), (28, "resolved")]


def test_an_alert_that_nobody_heard_of_is_not_resolved() -> None:
    holding, _ = Holding().after([SLOW], 0.0, HOUR)
    holding, due = holding.after([], CLEAR, HOUR)
    assert (due, holding.held) == ([], {})


def test_an_undelivered_message_stays_due() -> None:
    holding = Holding()
    for look in range(3):
        holding, due = holding.after([SLOW], look * LOOK, HOUR)
        assert [(one.event, one.since) for one in due] == [("raised", 0.0)]


def test_a_blind_look_resolves_nothing_and_repeats_nothing() -> None:
    """The guard sees the alert at first, then nothing for two hours, then that it is gone."""
    told = reports(lambda look: [SLOW] if look < 3 else [], 140, blind=lambda look: 3 <= look < 120)
    assert told == [(0, "raised"), (129, "resolved")]


def test_the_last_moment_of_sight_is_kept() -> None:
    holding, _ = Holding().after([], 100.0, HOUR)
    holding, _ = holding.after([], 200.0, HOUR, blind=True)
    assert (holding.time, holding.sighted) == (200.0, 100.0)


def test_an_alert_that_does_not_repeat_is_reported_once() -> None:
    once = Alert("ended", "warning", "stopped", "submit", repeats=False)
    assert reports(lambda _: [once], 200, blind=lambda _: False) == [(0, "raised")]


def test_a_wrong_clock_silences_nothing_for_long() -> None:
    """A guard on a node whose clock is a day ahead has reported it."""
    holding, due = Holding().after([SLOW], 86_400.0, HOUR)
    holding = holding.delivered(due[0], 86_400.0)
    _, due = holding.after([SLOW], 0.0, HOUR)
    assert [one.event for one in due] == ["again"]
