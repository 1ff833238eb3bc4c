"""Charts: axes with round ticks, series thinned without losing a spike, SVG that is well-formed."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from kit.output.charts import svg, thin, ticks
from kit.output.charts.chart import COLOURS, Lines, Mark, Series, Span, Strips

STEPS = np.arange(1, 100_001, dtype=np.float64)


def lines(marks: tuple[Mark, ...] = (), words: str = "") -> Lines:
    x, y = ticks.numbers("steps", 0, 100), ticks.numbers("loss", 0, 10)
    values = np.array([0.0, 50.0, 100.0])
    series = [
        Series("one", "blue", values, values / 10),
        Series("two", "red", values, np.array([1.0, np.nan, 2.0]), "points"),
    ]
    return Lines("Title", words, x, y, series, marks)


def strips() -> Strips:
    spans = [Span(0, 40, "blue", "first"), Span(40, 40.0001, "red", "narrow")]
    return Strips("Title", "Words.", ticks.numbers("%", 0, 100), [("row", spans)])


def test_every_spike_of_a_thinned_series_stays_at_its_place() -> None:
    loss = 3 + 0.1 * np.sin(STEPS)
    spikes = {77: 9.0, 50_123: 11.0, 99_999: 0.5}
    for step, value in spikes.items():
        loss[step - 1] = value
    x, y = thin.envelope(STEPS, loss)
    assert len(x) <= 2 * thin.BINS
    drawn = dict(zip(x.tolist(), y.tolist(), strict=True))
    assert spikes.items() <= drawn.items()
    assert all(drawn[step] == loss[int(step) - 1] for step in drawn)
    assert (np.diff(x) > 0).all()


def test_a_short_series_is_not_thinned_and_what_is_not_finite_is_left_out() -> None:
    x, y = thin.envelope(np.array([1.0, 2, 3]), np.array([5.0, np.nan, 7]))
    assert (x.tolist(), y.tolist()) == ([1, 3], [5, 7])
    assert len(thin.envelope(np.empty(0), np.empty(0))[0]) == 0
    assert len(thin.medians(np.arange(3.0), np.arange(3.0))[0]) == 0


def test_a_series_that_starts_late_or_stands_still_is_thinned_too() -> None:
    same = np.full(10_000, 7.0)
    x, y = thin.envelope(same, np.arange(10_000.0))
    assert {0.0, 9_999.0} <= set(y.tolist())
    assert len(x) <= 2 * thin.BINS


def test_medians_ignore_a_spike() -> None:
    loss = np.full(len(STEPS), 3.0)
    loss[500] = 1000
    assert set(thin.medians(STEPS, loss)[1].tolist()) == {3.0}


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 100, ["0", "20", "40", "60", "80", "100"]),
        (2.61, 3.49, ["2.8", "3", "3.2", "3.4"]),
        (0, 2.1e11, ["0", "50G", "100G", "150G", "200G"]),
        (0, 6e-4, ["0", "0.0002", "0.0004", "0.0006"]),
        (5, 5, ["4.8", "4.9", "5", "5.1", "5.2"]),
        (0, 0, ["-0.04", "-0.02", "0", "0.02", "0.04"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, labels: list[str]) -> None:
    axis = ticks.numbers("", low, high)
    assert [label for _, label in axis.ticks] == labels
    shares = axis.share(np.array([at for at, _ in axis.ticks]))
    assert ((shares > -1e-9) & (shares < 1 + 1e-9)).all()


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    axis = ticks.powers("", 0.5, 20_000)
    assert [label for _, label in axis.ticks] == ["1", "10", "100", "1k", "10k"]
    assert axis.share(np.array([100.0, 1000.0])).tolist() == pytest.approx([0.5, 0.717], abs=0.01)


@pytest.mark.parametrize("seconds", [1, 70, 4000, 90_000, 7e5, 7e6, 4e7, 5e8])
def test_times_have_a_few_ticks_at_round_times_whatever_the_span(seconds: float) -> None:
    begin = 1_700_000_123.4
    axis = ticks.times(begin, begin + seconds)
    assert 0 < len(axis.ticks) <= 6
    for at, label in axis.ticks:
        assert begin <= at <= begin + seconds
        if seconds > 90_000:
            assert time.localtime(at)[3:6] == (0, 0, 0), label
    assert time.strftime("%Y-%m-%d", time.localtime(begin)) in axis.title


@pytest.mark.parametrize("chart", [lines(), strips()], ids=["lines", "strips"])
def test_svg_is_well_formed_and_says_what_it_shows(chart: Lines | Strips) -> None:
    figure = ET.fromstring(svg.drawn(chart))
    (drawing,) = [one for one in figure.iter("svg") if one.get("role") == "img"]
    assert drawing.get("aria-label", "").startswith("Title.")
    texts = [text.text for text in figure.iter("text")]
    assert {label for _, label in chart.x.ticks} <= {*texts}


def test_svg_escapes_every_text() -> None:
    bad = '<script>alert("x")</script>&'
    chart = Lines(bad, bad, ticks.numbers(bad, 0, 1), ticks.numbers(bad, 0, 1),
                  [Series(bad, "blue", STEPS[:2], STEPS[:2])] * 2, [Mark(0.5, bad, bad)], bad)  # fmt: skip
    spans = Strips(bad, bad, ticks.numbers(bad, 0, 1), [(bad, [Span(0, 1, "red", bad)])], bad)
    for one in (chart, spans):
        drawn = svg.drawn(one)
        assert "<script" not in drawn
        assert bad in "".join(ET.fromstring(drawn).itertext())


def test_values_beyond_the_axis_are_drawn_at_its_edge() -> None:
    y = ticks.numbers("loss", 2, 3)
    series = Series("loss", "blue", np.array([0.0, 1.0]), np.array([2.0, 99.0]))
    drawn = svg.drawn(Lines("", "", ticks.numbers("", 0, 1), y, [series]))
    assert 'd="M0 1000L2000 0"' in drawn


def test_marks_that_are_close_share_a_place_and_lose_no_word() -> None:
    marks = (
        Mark(10, "▲", "preempted"), Mark(11, "✕", "crashed", 2), Mark(12, "▲", "again"),
        Mark(90, "◆", "late"),
    )  # fmt: skip
    spaced = lines(marks).spaced_marks(0.05)
    assert spaced == [(0.1, "✕", "preempted; crashed; again"), (0.9, "◆", "late")]


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_lines_stand_out_from_the_page(which: int) -> None:
    """WCAG 2.1, 1.4.11: a contrast of 3 for graphics; yellow, orange and pale are for areas only."""
    page = ("#ffffff", "#12161c")[which]
    for name in ("blue", "red", "green", "grey"):
        assert _contrast(COLOURS[name][which], page) >= 3, name


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
