"""The report of a finished relay: made by itself, legible in a browser, shown by the model card."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.release import closing
from kit.release.card import picture
from kit.release.source import source_of
from kit.store.files import read_json
from kit.store.paths import Run
from kit.tracking import ledger
from kit.watch.report.page import MOST
from kit.watch.report.write import PICTURES
from tests.perfetto import BROWSER, QUIET
from tests.relay import log_of
from tests.speed import patience
from tests.warm import light as command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.end_to_end


def test_a_finished_relay_has_its_report(preempted: Run) -> None:
    page = preempted.report_page.read_text(encoding="utf-8")
    assert len(page.encode()) < MOST
    text = " ".join(re.sub("<[^>]+>", " ", page).split())
    for part in (
        "The training is finished: step 40 of 40",
        "2 attempts. An attempt ended and the next one began: ▲ preemption: 1.",
        "bits per byte",
        "written: held-out",
        "(chosen)",
        "the release, step 40",
        "All stages are done.",
    ):
        assert part in text
    assert "Not shown" not in text
    assert "yet" not in text.replace("no end yet", "")
    found = {path.stem for path in preempted.report.glob("*.png")}
    assert found == {*PICTURES} - {"late-loss"}  # 40 steps are too few for it
    assert f"report: {preempted.report_page}" in log_of(preempted, "generate")


def test_a_release_has_its_curve_and_its_report_without_paths_and_nodes(preempted: Run) -> None:
    page = (preempted.export / "report.html").read_text(encoding="utf-8")
    assert "The training is finished: step 40 of 40" in page
    assert "Not shown" not in page
    node = read_json(ledger.attempts(preempted)[0].start)["node"]
    for private in (str(preempted.root.parents[1]), f">{node}<"):
        assert private in preempted.report_page.read_text(encoding="utf-8")
        assert private not in page
    (events,) = (preempted.export / "runs").iterdir()
    drawn = EventAccumulator(str(events.parent), {"scalars": 0}).Reload()
    rows = [row for row in ledger.canonical(preempted) if row["kind"] == "step"]
    shown = [(event.step, event.value) for event in drawn.Scalars("train/loss")]
    assert shown == [(row["step"], pytest.approx(row["loss"])) for row in rows]


def test_the_model_card_shows_the_curve(preempted: Run, tmp_path: Path) -> None:
    text = (preempted.export / "README.md").read_text(encoding="utf-8")
    assert f"]({picture.PICTURE})" in text
    assert re.search(r"\| from start to end \| .*, \d+\.\d% of it in the steps above \|", text)
    shown = (preempted.export / picture.PICTURE).read_bytes()
    assert shown.startswith(b"\x89PNG")
    picture.draw(source_of(preempted), read_resolved(preempted.recipe, Recipe), tmp_path)
    assert (tmp_path / picture.PICTURE).read_bytes() == shown  # made again, the same bytes


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_has_nothing_to_complain_of(preempted: Run, tmp_path: Path) -> None:
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={tmp_path}", "--dump-dom", f"file://{preempted.report_page}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=patience(120),
    )  # fmt: skip
    assert "<h1>demo</h1>" in done.stdout
    assert "CONSOLE" not in done.stderr


def test_a_run_of_somebody_else_is_reported_elsewhere(preempted: Run, tmp_path: Path) -> None:
    before = preempted.report_page.read_bytes()
    said = command("watch", "report", str(preempted.root), "--out", str(tmp_path / "out"))
    assert str(tmp_path / "out" / "report.html") in said
    assert preempted.report_page.read_bytes() == before
    said = command("watch", "report", str(preempted.root), "--public", code=2)
    assert said == "error: --public: give the folder to write to by --out\n"


def test_a_report_that_fails_is_one_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    closing.report(Run(tmp_path / "none"))
    (line,) = capfd.readouterr().err.splitlines() or capfd.readouterr().out.splitlines()
    assert "no report: " in line
