"""Lines of a log, and how far long work has come."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import TYPE_CHECKING

import pytest

from kit.output import log, progress
from kit.store.units import Tally, Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture(autouse=True)
def nowhere() -> Iterator[None]:
    yield
    log.set_place("")


def test_a_line_has_clock_attempt_and_rank(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("before")
    log.set_place("attempt 3 rank 0")
    log.info("checkpoint of step 500")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"{CLOCK} before", first)
    assert re.fullmatch(rf"{CLOCK} attempt 3 rank 0: checkpoint of step 500", second)


def test_the_other_ranks_say_what_is_amiss_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.set_place("attempt 3 rank 1", quiet=True)
    log.info("what rank 0 says")
    log.warning("what is amiss")
    assert re.fullmatch(rf"{CLOCK} attempt 3 rank 1: what is amiss\n", capsys.readouterr().err)


def test_a_librarys_record_is_left_out_by_its_words_and_the_others_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = logging.getLogger("a.library")
    log.leave_out("a.library", "untested optimizer")
    library.warning("You are using an %s optimizer", "untested")
    library.error("no room")
    assert caplog.messages == ["no room"]


def on_terminal(work: Callable[[], None]) -> str:
    """What a terminal shows of some work whose stderr it is."""
    outer, inner = os.openpty()
    with os.fdopen(inner, "w") as terminal, contextlib.redirect_stderr(terminal):
        work()
    text = ""
    with os.fdopen(outer) as screen, contextlib.suppress(OSError):  # the end of a terminal
        while line := screen.readline():
            text += line
    return text


def test_a_terminal_has_lines_without_a_clock_above_its_bar() -> None:
    def work() -> None:
        with progress.progress_bar("preprocess", 4, "unit") as at:
            at(3, "web-00003")
            log.info("a line")

    text = on_terminal(work)
    assert re.search(r"3 of 4 units, .*units/s, .* left, web-00003", text)
    assert re.search(r"(^|[\nmGK])a line", text)
    assert not re.search(CLOCK, text)


def test_two_bars_at_once_are_both_shown() -> None:
    def work() -> None:
        with progress.progress_bar("download", 2, "unit") as units:
            units(1)
            with progress.progress_bar("ja.txt.xz", None) as read:
                read(2_500_000)
            units(2)

    text = on_terminal(work)
    assert "1 of 2 units" in text
    assert "2.5 MB" in text
    assert "2 of 2 units" in text


def test_a_rate_goes_back_a_minute_and_no_further() -> None:
    pace = progress.ProgressPace(0, 0.0)
    assert pace.per_second == 0
    for second in range(0, 600, 10):
        pace.add(second, float(second))  # one a second
    for second in range(600, 671, 10):
        pace.add(600 + 5 * (second - 600), float(second))
    assert pace.per_second == pytest.approx(5)
    pace.add(2000, 1000.0)  # a pause longer than a minute
    assert pace.per_second == pytest.approx((2000 - 950) / 330)


@pytest.mark.parametrize(
    ("done", "total", "per_second", "text"),
    [
        (3, 12, 0.025, "3 of 12 units, 1.5 units/min, 6 min left"),
        (1, 1, 2.0, "1 of 1 unit, 2.0 units/s"),
        (0, 1234, 0.0, "0 of 1,234 units"),
        (1, None, 0.0, "1 unit"),
    ],
)
def test_figures_say_how_far_how_fast_and_how_long(
    done: int, total: int | None, per_second: float, text: str
) -> None:
    assert progress.figures(done, total, "unit", per_second) == text


def unit(folder: Path, name: str) -> Unit:
    def make(place: Path) -> dict[str, int]:
        (place / "file").write_text(name)
        return {}

    return Unit(name, folder / name, {"stage": "any"}, make)


def test_a_stage_on_a_terminal_has_a_bar_and_in_a_file_a_line_a_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_units("any", [unit(tmp_path, name) for name in ("a", "b")])
    make_units("any", [unit(tmp_path, name) for name in ("a", "b")])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2].split(",")[0].rstrip(")") for line in lines] == [
        "any: a (1 of 2", "any: b (2 of 2", "any: nothing to do",
    ]  # fmt: skip
    assert lines[-1].endswith("2 units are done")
    text = on_terminal(lambda: void(make_units("any", [unit(tmp_path, "c"), unit(tmp_path, "d")])))
    assert re.search(r"1 of 2 units, .* left, d", text)


def void(_: object) -> None: ...


def test_a_tally_counts_what_others_make(tmp_path: Path) -> None:
    units = [unit(tmp_path, name) for name in ("a", "b", "c")]
    make_units("any", units[:1])
    stale = Unit("a", tmp_path / "a", {"stage": "other"}, units[0].make)
    tally = Tally([stale, *units[1:]])
    assert (tally.total, tally.done()) == (3, 0)
    make_units("any", units[1:2])
    assert tally.done() == 1
    make_units("any", [stale])
    assert tally.done() == 2
