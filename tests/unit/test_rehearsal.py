"""A rehearsal: what it replaces, and what it makes of a ledger."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import lock
from kit.errors import JobFailed, RunError, StageError
from kit.relay import rehearsal, rehearsal_page, resolve
from kit.run import directory
from kit.store.files import write_json
from tests.conftest import ROOT
from tests.printed import shape

if TYPE_CHECKING:
    from kit.store.paths import Run
    from tests.conftest import Workdir

PARAMETERS, BLOCKS = 1_000_000, 500


def write_ledger(run: Run, number: int, seconds: list[float]) -> None:
    """An attempt that took 30 s to begin and so long for its steps, with two saves and validations."""
    attempt = run.attempt(number)
    rows: list[dict[str, Any]] = [
        {
            "kind": "attempt",
            "ranks": 2,
            "parameters": PARAMETERS,
            "training_tokens": BLOCKS * 16 + 1,
        }
    ]
    clock = 1030.0
    for step, took in enumerate(seconds, 1):
        clock += took
        memory = 3_000_000 if step == len(seconds) else 2_000_000
        step_row = {"step": step, "time": clock, "seconds": took, "memory_bytes": memory}
        rows.append({"kind": "step", **step_row})
    for blocked, took, rested in ((0.25, 4.0, 0.0), (0.5, 9.0, 6.0)):
        times = {"blocked": blocked, "seconds": took, "rested": rested}
        rows.append({"kind": "checkpoint", **times, "bytes": 10**9})
    rows += [{"kind": "validation", "step": 0, "seconds": took} for took in (7.0, 6.0)]
    write_json(attempt.start, {"from_step": 0, "time": 1000.0})
    attempt.ledger.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def report(workdir: Workdir, run: Run) -> dict[str, Any]:
    """That of a run of 3,000 epochs over 500 blocks in steps of 8, on two A100."""
    project = resolve.load(
        workdir.recipe_file,
        [
            "training.steps=null", "training.epochs=3000", "training.validate_every=1000",
            "training.checkpoint_every=null", "training.keep_every=50000",
            "cluster.training.accelerator=a100", "cluster.training.minutes=1440",
        ],
    )  # fmt: skip
    # The first five steps of an attempt are slow, and not counted.
    write_ledger(run, 1, [90.0, 9, 9, 9, 9, 2.0, 2.0, 3.0])
    return rehearsal.report(run, project.recipe, project.cluster)


def test_the_first_steps_are_not_counted(report: dict[str, Any]) -> None:
    measured = report["measured"]
    assert measured["steps"] == 3
    assert measured["seconds_a_step"] == 2.0
    assert measured["tokens_per_second"] == 8 * 16 / 2.0
    assert measured["start_seconds"] == pytest.approx(30.0)


def test_of_saves_and_validations_the_longest_counts(report: dict[str, Any]) -> None:
    measured = report["measured"]
    assert (measured["save_seconds"], measured["save_blocked_seconds"]) == (4.0, 0.5)
    assert measured["validation_seconds"] == 7.0
    assert measured["checkpoint_bytes"] == 10**9
    assert measured["memory_bytes"] == 3_000_000


def test_the_mfu_is_of_all_ranks(report: dict[str, Any]) -> None:
    work = 6 * PARAMETERS + 12 * 1 * 16 * 16  # one layer of width 16, 16 positions
    assert report["measured"]["mfu"] == pytest.approx(64 * work / (2 * 312e12), rel=1e-12)


def test_the_whole_run_is_reckoned_from_it(report: dict[str, Any]) -> None:
    whole = report["whole"]
    assert whole["steps"] == 3000 * BLOCKS // 8  # 187,500
    assert whole["tokens"] == 187_500 * 8 * 16
    assert whole["step_hours"] == pytest.approx(375_000 / 3600)
    # sqrt(2 x 0.5 s x a day) is 294 s, ten times a save less.
    assert whole["checkpoint_interval_seconds"] == pytest.approx(86_400**0.5)
    assert whole["saves"] == 1276
    assert whole["save_hours"] == pytest.approx(1276 * 0.5 / 3600)
    assert whole["validation_hours"] == pytest.approx(189 * 7.0 / 3600)
    # 376,961 s in attempts of a day, each without its start and its last save.
    assert whole["attempts"] == 5
    assert whole["days"] == pytest.approx((375_000 + 638 + 1323 + 5 * 30) / 86_400)
    assert whole["checkpoints_kept"] == 2 + 3
    assert whole["disk_bytes"] == 6 * 10**9


def test_a_report_is_printed_with_its_units(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsal_page.show(report)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    assert lines["attempts"] == "5, of 1,440 minutes each"
    assert lines["memory"] == "3 MB per rank at its peak"
    assert lines["takes"].startswith("4 d 9 h, ")
    assert lines["disk"].startswith("6 GB for 5 checkpoints")


@pytest.mark.parametrize("page", ["training.md", "operating.md", "operating.ja.md"])
def test_a_page_shows_a_report_as_it_is_printed(
    page: str, workdir: Workdir, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ledger(run, 1, [9.0] * 5 + [2.0])
    project = resolve.load(workdir.recipe_file)
    rehearsal_page.show(rehearsal.report(run, project.recipe, project.cluster))
    said = {*map(shape, capsys.readouterr().out.splitlines())}
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (shown,) = re.findall(r"^measured over.*?(?=^```)", text, re.MULTILINE | re.DOTALL)
    assert [line for line in map(shape, shown.splitlines()) if line not in said] == []


def test_a_recipe_that_says_when_to_save_is_reckoned_by_it(workdir: Workdir, run: Run) -> None:
    write_ledger(run, 1, [9.0] * 5 + [2.0])
    project = resolve.load(workdir.recipe_file)
    report = rehearsal.report(run, project.recipe, project.cluster)
    assert report["whole"]["checkpoint_interval_seconds"] == 5 * 2.0
    assert report["whole"]["saves"] == 2
    assert report["measured"]["mfu"] is None


def test_a_limit_too_short_for_a_start_and_a_save_gets_nowhere(
    workdir: Workdir, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ledger(run, 1, [1970.0] + [9.0] * 4 + [2.0])
    project = resolve.load(workdir.recipe_file, ["cluster.training.minutes=1"])
    write_json(run.attempt(1).start, {"from_step": 0, "time": 900.0})
    report = rehearsal.report(run, project.recipe, project.cluster)
    assert report["whole"]["attempts"] is None
    rehearsal_page.show(report)
    assert "none can finish its start and a save within 1 minute" in capsys.readouterr().out


def test_attempts_too_short_to_measure_are_said_to_be(workdir: Workdir, run: Run) -> None:
    write_ledger(run, 1, [9.0] * 5)
    project = resolve.load(workdir.recipe_file)
    with pytest.raises(JobFailed, match="to measure"):
        rehearsal.report(run, project.recipe, project.cluster)


def test_an_earlier_rehearsal_is_replaced(run: Run) -> None:
    directory.identify(run, "small-rehearsal", rehearsal_of="small")
    rehearsal.replace(run)
    assert list(run.root.parent.glob("*run*")) == []


def test_a_run_that_is_no_rehearsal_is_not_replaced(run: Run) -> None:
    directory.identify(run, "small-rehearsal")
    with pytest.raises(RunError, match="not a rehearsal"):
        rehearsal.replace(run)
    assert run.identity.is_file()


def test_a_rehearsal_at_work_is_not_replaced(run: Run) -> None:
    directory.identify(run, "small-rehearsal", rehearsal_of="small")
    with lock.hold(run), pytest.raises(RunError, match="is already running this run"):
        rehearsal.replace(run)
    assert run.identity.is_file()


def test_a_rehearsal_before_the_tokens_are_made_says_what_is_missing(workdir: Workdir) -> None:
    project = resolve.load(workdir.recipe_file)
    with pytest.raises(StageError, match=r"run ekiden \w+ first"):
        rehearsal.rehearse(project, 50)
    assert not workdir.workspace.root.exists()
