"""A short chaos run, as its command prints it; longer ones are run by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.architectures import SHAPES
from tests.relay import ROOT, copy_of
from tests.speed import LONG

from .phases import PHASES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

INTERRUPTIONS = 20 if LONG else 5
MUON = "training.optimizer=muon"
# Muon's orthogonalisation takes a CPU longer than the rest of a step.
FORMS = [
    pytest.param((), id="adamw"),
    pytest.param((MUON,), id="muon", marks=pytest.mark.long),
    pytest.param(
        (MUON, "training.deepspeed=zero1", *SHAPES["qwen3"]),
        id="muon-zero1-qwen3",
        marks=pytest.mark.long,
    ),
]


@pytest.mark.parametrize("overrides", FORMS)
def test_a_run_interrupted_at_random_ends_as_one_that_was_not(
    tokens: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    workspace = copy_of(tokens, tmp_path / "workspace")
    program = [sys.executable, "-m", "tests.chaos", f"--workspace={workspace}"]
    done = subprocess.run(
        [*program, f"--interruptions={INTERRUPTIONS}", "--seed=4", "--set", *overrides],
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
