"""The benchmarks' arithmetic and command lines; what they measure is for `make bench`."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks import harness

if TYPE_CHECKING:
    from pathlib import Path

BENCHMARKS = sorted(
    path.stem
    for path in (harness.ROOT / "tests/benchmarks").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
# One rank: writes a row for a step every hundredth of a second, until it is ended.
STEPPER = """
import json, sys, time
with open(sys.argv[1], "a") as rows:
    while True:
        time.sleep(0.01)
        print(json.dumps({"kind": "step", "time": time.time()}), file=rows, flush=True)
"""


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


def test_a_program_stands_still_while_the_other_has_its_turn(tmp_path: Path) -> None:
    files = [tmp_path / "one.jsonl", tmp_path / "other.jsonl"]
    commands = [([sys.executable, "-c", STEPPER, str(file)], {}) for file in files]
    with (
        harness.ranks("one", commands[:1], files[0], tmp_path / "logs") as one,
        harness.ranks("other", commands[1:], files[1], tmp_path / "logs") as other,
    ):
        means = harness.take_turns([one, other], turns=3, steps=4, warm=2)
        steps = [(moment, p.name) for p in (one, other) for moment in p.ended()]
    assert [len(turns) for turns in means] == [3, 3]
    assert all(mean >= 0.01 for turns in means for mean in turns)
    # A turn counts five steps, of which one may have ended before the stop of the turn before, and
    # been written after it: the last twenty-four are those of six turns at the most.
    late = [name for _, name in sorted(steps)[-24:]]
    assert sum(one != next_one for one, next_one in itertools.pairwise(late)) <= 5
    assert all(process.poll() is not None for p in (one, other) for process in p.processes)


def test_a_program_that_dies_is_an_error_and_its_words_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ([sys.executable, "-c", "raise SystemExit('no such recipe')"], {})
    with (
        pytest.raises(RuntimeError, match=r"one: no step 1; exit codes \[1\]"),
        harness.ranks("one", [command], tmp_path / "rows.jsonl", tmp_path / "logs") as one,
    ):
        one.wait_for(1)
    assert "no such recipe" in capsys.readouterr().err


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


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_says_what_it_measures(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--help"],
        cwd=harness.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"python -m tests.benchmarks.{name}" in done.stdout
    assert "--json" in done.stdout


def test_there_are_benchmarks() -> None:
    assert "training" in BENCHMARKS
