"""`train acceptance` on two ranks of a CPU: every part of it, for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kit.relay.acceptance.verdicts import PAGE, REPORT
from kit.store.files import read_json
from kit.store.paths import Workspace
from kit.tracking import ledger
from tests.relay import DEMO, TINY
from tests.slurm.trial import CLUSTER
from tests.warm import command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.end_to_end

PARTS = [
    "preflight", "ranks meet", "micro-batch", "rate", "memory", "profile", "data", "ledger",
    "resume, deterministic", "resume, not deterministic", "determinism", "agreement", "memory by part",
    "save", "load", "two nodes",
]  # fmt: skip


def test_every_part_is_shown_and_a_run_survives_each_signal_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}.items():
        monkeypatch.setenv(name, value)  # as on a node held by salloc
    given = (str(DEMO), f"workspace={tmp_path}", *TINY, "--cluster", CLUSTER, "--here")
    said = command("train", "acceptance", *given, "--steps", "20")
    folder = Workspace(tmp_path).acceptance("demo").root
    report = read_json(folder / REPORT)
    verdicts = {row["part"]: row for row in report["verdicts"]}
    assert [*verdicts] == PARTS
    assert {name: row["state"] for name, row in verdicts.items() if row["state"] != "ok"} == {
        "two nodes": "not tried"  # there is one
    }, said
    assert report["passed"]
    assert "passed, in" in said
    for name in ("resume, deterministic", "resume, not deterministic"):
        facts = verdicts[name]["facts"]
        assert facts["equal"]
        assert facts["interruptions"] == ["SIGUSR2", "preemption", "crash (exit code 137)"]
    page = (folder / PAGE).read_text()
    assert page.startswith("# Acceptance of demo on one-machine: passed")
    assert all(f"- **{part}**: ok. " in page for part in PARTS[:-1])
    parts = verdicts["memory by part"]["facts"]["parts"]
    for name in ("weights", "optimizer"):
        assert parts[name]["off"] == pytest.approx(0, abs=0.01)
    for name in ("gradients", "activations", "buffers"):
        assert parts[name]["bytes"] is None  # torch counts on a GPU only
    assert verdicts["load"]["facts"]["read_bytes"] >= verdicts["save"]["facts"]["bytes"]
    assert {one["name"] for one in verdicts["preflight"]["facts"]["checks"]} >= {
        "space",
        "packages",
    }
    trials = Workspace(tmp_path / "synthetic" / "demo-acceptance")
    assert len(ledger.attempts(trials.run("deterministic-interrupted"))) == 4
    assert len(ledger.attempts(trials.run("deterministic-whole"))) == 1
