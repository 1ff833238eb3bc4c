"""The benchmarks' command lines, and programs that take turns."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.benchmarks import harness
from tests.relay import wait_until
from tests.speed import patience

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
    assert all(turn.step >= 0.01 for turns in means for turn in turns)
    assert all(0 <= turn.processor <= turn.step for turns in means for turn in turns)
    # A turn counts five steps, of which one may have ended before the stop of the turn before, and
    # been written after it: the last twenty-four are those of six turns at the most.
    late = [name for _, name in sorted(steps)[-24:]]
    assert sum(one != next_one for one, next_one in itertools.pairwise(late)) <= 5
    assert all(process.poll() is not None for p in (one, other) for process in p.processes)


# A rank that has started a process, which ends with it.
HELPED = f"""
import subprocess
helper = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
{STEPPER}
"""


def test_what_a_rank_has_started_stands_still_with_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    command = ([sys.executable, "-c", HELPED, str(file)], {})
    with harness.ranks("one", [command], file, tmp_path / "logs") as one:
        one.wait_for(1)
        (helper,) = psutil.Process(one.processes[0].pid).children()

        def stands() -> bool:
            return helper.status() == psutil.STATUS_STOPPED

        one.pause()
        wait_until(stands, "stop", 60)
        one.go_on()
        assert not stands()
        one.pause()
        wait_until(stands, "stop", 60)
    assert psutil.wait_procs([helper], patience(60)) == ([helper], [])


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
