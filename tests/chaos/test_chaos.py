"""A short chaos run, as its command prints it; longer ones are run by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.relay import ROOT
from tests.speed import LONG

from .phases import PHASES

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

INTERRUPTIONS = 20 if LONG else 6


def test_a_run_interrupted_at_random_ends_as_one_that_was_not() -> None:
    program = [sys.executable, "-m", "tests.chaos"]
    done = subprocess.run(
        [*program, f"--interruptions={INTERRUPTIONS}", "--seed=4"],
        stdout=subprocess.PIPE,  # its progress goes where pytest's own output goes
        text=True,
        check=False,
        cwd=ROOT,
    )
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert done.returncode == 0, report
    assert report["interruptions"] == INTERRUPTIONS
    assert report["by_phase"].keys() == set(PHASES)
    assert all(report["by_phase"].values()), report["by_phase"]
    assert sum(report["by_kind"].values()) == INTERRUPTIONS
    assert report["weights_equal"]
    assert report["optimizer_equal"]
    assert report["ledger_equal"]
