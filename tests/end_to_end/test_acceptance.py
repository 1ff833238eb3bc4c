"""`train acceptance` on two ranks of a CPU: every part of it, for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.relay.acceptance.micro_batch import search
from kit.relay.acceptance.verdicts import PAGE, REPORT
from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.tracking import ledger
from tests.relay import DEMO, TINY
from tests.warm import command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.end_to_end

PARTS = [
    "preflight", "micro-batch", "ranks meet", "rate", "memory", "profile", "data", "ledger",
    "resume, deterministic", "resume, not deterministic", "determinism", "agreement", "memory by part",
    "save", "load", "two nodes",
]  # fmt: skip


def test_every_part_is_shown_and_a_run_survives_each_signal_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}.items():
        monkeypatch.setenv(name, value)  # as under srun
    said = command(
        "train", "acceptance", str(DEMO), f"workspace={tmp_path}", *TINY, "--steps", "20"
    )
    folder = Workspace(tmp_path).acceptance("demo").root
    report = read_json(folder / REPORT)
    verdicts = {row["part"]: row for row in report["verdicts"]}
    assert [*verdicts] == PARTS
    assert {row["state"] for row in report["verdicts"]} == {"ok"}, said
    assert report["passed"]
    assert "passed, in" in said
    for name in ("resume, deterministic", "resume, not deterministic"):
        facts = verdicts[name]["facts"]
        assert facts["equal"]
        assert facts["interruptions"] == ["SIGUSR2", "preemption", "crash (exit code 137)"]
    page = (folder / PAGE).read_text()
    assert page.startswith("# Acceptance of demo on local: passed")
    assert all(f"| {part} | ok |" in page for part in PARTS)
    trials = Workspace(tmp_path / "synthetic" / "demo-acceptance")
    assert len(ledger.attempts(trials.run("deterministic-interrupted"))) == 4
    assert len(ledger.attempts(trials.run("deterministic-whole"))) == 1


def test_the_search_steps_down_from_what_does_not_fit_and_up_from_what_does() -> None:
    sizes = [1, 2, 4, 8, 16]
    assert search(sizes, 3, lambda n: n <= 2) == {8: False, 4: False, 2: True}
    assert search(sizes, 1, lambda n: n <= 8) == {2: True, 4: True, 8: True, 16: False}
    assert search(sizes, 4, lambda _: True) == {16: True}
    assert search(sizes, 0, lambda _: False) == {1: False}
