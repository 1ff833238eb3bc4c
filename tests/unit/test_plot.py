"""The plot of the loss in a terminal, and the trend that it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from kit.watch.plot import AXES, VALIDATION, plot
from kit.watch.trend import trend


def columns_of(line: str) -> list[int]:
    """The columns of a line in which there is a dot."""
    return [at for at, sign in enumerate(line) if "⠀" < sign <= "⣿"]


def test_a_falling_loss_falls_from_the_upper_left_to_the_lower_right() -> None:
    lines = plot([1, 50, 100], [5.0, 4.0, 3.0], 60, 13)
    curve = lines[:-AXES]
    assert (len(lines), max(map(cell_len, lines))) == (13, 60)
    assert [columns_of(line)[0] for line in curve] == sorted(columns_of(line)[0] for line in curve)
    assert columns_of(curve[0])[0] == 9
    assert columns_of(curve[-1])[-1] == 59
    assert [line.split()[0] for line in (curve[0], curve[4], curve[-1])] == [
        "5.000", "4.111", "3.000",
    ]  # fmt: skip


def test_steps_and_attempts_stand_below_the_place_where_they_are() -> None:
    steps = list(range(0, 1001, 10))
    lines = plot(
        steps, [3.0 + step % 7 for step in steps], 110, 10, attempts={1: 0, 2: 500, 3: 510}
    )
    axis, labels, attempts = lines[-AXES:]
    assert labels.split() == ["step", "0", "200", "400", "600", "800", "1,000"]
    assert axis[labels.index("400")] == "┴"
    assert attempts.split() == ["attempt", "1", "2·"]  # there is no room for the third
    assert attempts.index("2") == 9 + 50
    assert attempts.index("1") == 9


def test_an_attempt_from_before_the_plotted_steps_is_at_its_left_edge() -> None:
    lines = plot([500, 600], [1.0, 2.0], 60, 10, attempts={4: 20, 5: 700})
    assert lines[-1].rstrip() == "attempt  4".rjust(10)


def test_a_loss_that_is_not_finite_leaves_a_gap() -> None:
    whole = plot([0, 1, 2, 3, 4], [1.0, 1.0, 1.0, 1.0, 1.0], 60, 8)
    gap = plot([0, 1, 2, 3, 4], [1.0, 1.0, None, 1.0, 1.0], 60, 8)
    dots = [sum(len(columns_of(line)) for line in lines) for lines in (whole, gap)]
    assert dots[1] <= dots[0] / 2 + 2


def test_the_first_steep_losses_do_not_flatten_the_rest() -> None:
    steps = list(range(1000))
    lines = plot(steps, [11.0 if step < 50 else 3.0 - step / 2000 for step in steps], 80, 12)
    assert lines[0].split()[0] == "2.950"
    assert columns_of(lines[-AXES - 1])[-1] == 79


def test_a_validation_is_drawn_over_the_curve() -> None:
    lines = plot([0, 100], [4.0, 3.0], 60, 12, validations=[(50, 3.5), (60, None), (300, 3.5)])
    assert sum(line.count(VALIDATION) for line in lines[:-AXES]) == 1


def test_one_step_is_a_dot_and_without_steps_or_room_there_is_nothing() -> None:
    assert sum(len(columns_of(line)) for line in plot([1], [5.0], 60, 8)) == 1
    assert plot([], [], 60, 8) == plot([1], [None], 60, 8) == []
    assert plot([1, 2], [5.0, 4.0], 20, 8) == plot([1, 2], [5.0, 4.0], 60, 5) == []


def steps_of(*losses: float | None) -> tuple[Any, Any]:
    """Steps from 1, and their losses."""
    return np.arange(1, len(losses) + 1), np.array(losses, np.float64)


def test_the_trend_is_the_median_of_ranges_of_equal_length() -> None:
    found = trend(*steps_of(1.0, 9.0, 2.0, 4.0, 5.0, None, None, None, None, 7.0), [], points=4)
    assert found["steps"] == [3, 6, 9, 10]
    assert found["losses"] == [2.0, 4.0, None, 7.0]


def test_few_steps_have_a_point_each_and_many_only_as_many_as_are_asked_for() -> None:
    assert trend(*steps_of(3.0, 2.0), [])["losses"] == [3.0, 2.0]
    many = trend(*steps_of(*[1.0] * 10_000), [], points=100)
    assert (len(many["steps"]), many["steps"][-1]) == (100, 10_000)
    assert trend(*steps_of(), []) == {"steps": [], "losses": [], "validations": []}


def test_of_many_validations_each_range_keeps_its_last() -> None:
    validations: list[Any] = [
        {"step": step, "validation_loss": float(step)} for step in range(0, 101, 5)
    ]
    found = trend(*steps_of(*[1.0] * 100), validations, points=4)
    assert found["validations"] == [[25, 25.0], [50, 50.0], [75, 75.0], [100, 100.0]]


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=40),
    st.integers(1, 120),
    st.integers(1, 30),
    st.dictionaries(st.integers(1, 400), st.integers(0, 1000), max_size=40),
)
@settings(max_examples=60)
def test_no_curve_leaves_its_room(
    losses: list[float | None], width: int, height: int, attempts: dict[int, int]
) -> None:
    steps = [7 * at + 3 for at in range(len(losses))]
    validations = [(step + 1, loss) for step, loss in zip(steps, losses, strict=True)]
    lines = plot(steps, losses, width, height, attempts=attempts, validations=validations)
    assert len(lines) in (0, height)
    assert all(cell_len(line) <= width for line in lines)
