"""The benchmarks' arithmetic and command lines; what they measure is for `make bench`."""

from __future__ import annotations

import json
import sys

import pytest

from tests.benchmarks import harness


def line(ours: list[float], peer: list[float], bar: str) -> harness.Line:
    return harness.compare("a step", "s", ours, peer, "another loop", bar)


def test_figures_are_medians_and_the_ratio_is_that_of_the_figures() -> None:
    found = line([1.0, 9.0, 3.0], [2.0, 2.0, 5.0], "ratio <= 1.5")
    assert (found.ours, found.peer, found.ratio) == (3.0, 2.0, 1.5)
    assert found.holds
    assert found.spread == pytest.approx((0.5, 4.5))  # of 0.5, 0.6 and 4.5


@pytest.mark.parametrize(
    ("ours", "bar", "holds"),
    [
        (1.03, "ratio <= 1.03", True),
        (1.04, "ratio <= 1.03", False),
        (0.5, "ratio >= 0.5", True),
        (0.4, "ratio >= 0.5", False),
        (20.0, "ours >= 20", True),
        (19.9, "ours >= 20", False),
        (1.0001, "|ratio-1| <= 1e-3", True),
        (0.998, "|ratio-1| <= 1e-3", False),
    ],
)
def test_a_bar_is_held_or_not(ours: float, bar: str, holds: bool) -> None:
    found = line([ours], [1.0], bar)
    assert found.holds is holds
    assert ("DOES NOT HOLD" in str(found)) is not holds


def test_repetitions_are_interleaved() -> None:
    called: list[str] = []

    def one(name: str) -> float:
        called.append(name)
        return float(len(called))

    found = harness.interleave(lambda: one("ours"), lambda: one("peer"), 3)
    assert called == ["ours", "peer"] * 3
    assert found == ([1.0, 3.0, 5.0], [2.0, 4.0, 6.0])


def test_json_is_a_list_of_lines_and_a_bar_that_does_not_hold_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measures = {
        "quick": lambda _: [line([1.0], [2.0], "ratio <= 1.0")],
        "slow": lambda _: [line([2.0], [1.0], "ratio <= 1.0")],
    }
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json"])
    assert harness.main("A benchmark.", measures) == 1
    found = json.loads(capsys.readouterr().out)
    keys = {"name", "unit", "ours", "peer", "peer_name", "ratio", "bar", "holds"}
    assert all(keys <= set(one) for one in found)
    assert [one["holds"] for one in found] == [True, False]
    monkeypatch.setattr(sys, "argv", ["benchmark", "--only", "quick"])
    assert harness.main("A benchmark.", measures) == 0
    assert capsys.readouterr().out.startswith("a step: ours 1 s, another loop 2 s, ratio 0.500;")
