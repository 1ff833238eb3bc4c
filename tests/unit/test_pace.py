"""How long the writer of a save rests."""

from __future__ import annotations

import pytest

from kit.training.pace import LONGEST, SHARE, pause


def test_a_writer_has_had_its_share_of_the_time_after_its_rest() -> None:
    worked, passed = 0.5, 2.0
    assert worked / (passed + pause(worked, passed)) == pytest.approx(SHARE)


def test_a_writer_that_waited_for_the_disk_rests_no_more() -> None:
    assert pause(0.5, 0.5 / SHARE + 1) < 0


def test_a_save_is_not_held_back_for_longer_than_a_minute() -> None:
    assert pause(1000.0, 20.0) == LONGEST - 20.0 == 40.0
    assert pause(1000.0, LONGEST + 1) < 0
