"""The units of a stage: which are made, what is told of them, and what stands in the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kit.errors import JobFailed, StageError
from kit.store.paths import MANIFEST
from kit.store.units import (
    MAX_NAMED,
    Fault,
    Survey,
    Tally,
    Unit,
    census,
    make_units,
    require,
    survey,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def unit(folder: Path, name: str, causes: str = "wool") -> Unit:
    def make(place: Path) -> Mapping[str, object]:
        (place / "cloth").write_text(causes, encoding="utf-8")
        return {}

    made_from = {"stage": "weave", "version": 1, "section": {}, "inputs": {"thread": causes}}
    return Unit(name, folder / name, made_from, make)


def row(folder: Path, count: int, causes: str = "wool") -> list[Unit]:
    return [unit(folder, f"u{number}", causes) for number in range(count)]


def damage(one: Unit) -> None:
    (one.folder / "cloth").unlink()


def test_a_task_makes_every_nth_unit_and_one_task_makes_all(tmp_path: Path) -> None:
    units = row(tmp_path, 5)
    assert make_units("weave", units, 1, 2) == 2
    assert [one.state() for one in units] == ["missing", "done", "missing", "done", "missing"]
    assert make_units("weave", units) == 3
    assert make_units("weave", units) == 0
    assert census(units) == {"done": 5, "missing": 0, "stale": 0, "broken": 0}


def test_a_log_says_which_unit_is_made_and_how_long_the_rest_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    units = row(tmp_path, 4)

    def slowly(place: Path) -> Mapping[str, object]:
        nonlocal now
        now += 40.0
        return {}

    monkeypatch.setattr("kit.store.units.time.monotonic", lambda: now)
    units = [Unit(one.name, one.folder, one.causes, slowly) for one in units]
    make_units("weave", units)
    told = [line.split("weave: ")[1] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "u0 (1 of 4)",
        "u1 (2 of 4, 2 min left)",
        "u2 (3 of 4, 80 s left)",
        "u3 (4 of 4, 40 s left)",
    ]


@pytest.mark.parametrize(
    ("count", "line"),
    [(1, "1 unit is done"), (2, "2 units are done"), (0, "0 units are done")],
)
def test_a_task_with_nothing_to_do_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, line: str
) -> None:
    units = row(tmp_path, count)
    make_units("weave", units)
    capsys.readouterr()
    make_units("weave", units)
    assert f"weave: nothing to do, {line}\n" in capsys.readouterr().err


def test_a_disk_that_refuses_is_told_with_the_unit_and_the_file(tmp_path: Path) -> None:
    one = unit(tmp_path, "u0")

    def refused(place: Path) -> Mapping[str, object]:
        raise OSError(28, "No space left on device", str(place / "cloth"))

    units = [Unit(one.name, one.folder, one.causes, refused)]
    with pytest.raises(JobFailed, match=r"weave: u0: .*u0/cloth: No space left .* again") as caught:
        make_units("weave", units)
    assert caught.value.exit_code == 1
    assert one.state() == "missing"


def test_units_that_are_required_are_all_done(tmp_path: Path) -> None:
    units = row(tmp_path, 2)
    make_units("weave", units)
    require(units, "jobs.weave")
    damage(units[1])
    with pytest.raises(StageError, match=r"u1: broken; run jobs\.weave first"):
        require(units, "jobs.weave")


def test_a_survey_counts_all_and_names_the_first_that_are_wrong_and_those_begun(
    tmp_path: Path,
) -> None:
    make_units("weave", row(tmp_path, 9, "silk"))
    units = row(tmp_path, 12)
    make_units("weave", units, 0, 12)
    damage(units[0])
    units[10].folder.mkdir()
    found = survey(units)
    assert found.counts == {"done": 0, "missing": 3, "stale": 8, "broken": 1}
    assert found.faults[0] == Fault("u0", "broken", "cloth is missing")
    assert [fault.state for fault in found.faults[1:]] == ["stale"] * (MAX_NAMED - 1)
    assert "silk" in found.faults[1].why
    assert found.begun == ["u10"]
    assert not found.complete


def test_a_survey_reads_every_byte_only_where_it_is_asked_to(tmp_path: Path) -> None:
    units = row(tmp_path, 2)
    make_units("weave", units)
    assert survey(units).complete
    (units[1].folder / "cloth").write_text("wolo", encoding="utf-8")
    assert survey(units).counts["broken"] == 0
    found = survey(units, verify=True)
    assert found.counts["broken"] == 1
    assert found.faults == [Fault("u1", "broken", "cloth: bytes differ from its manifest")]
    assert census(units, verify=True)["broken"] == 1


def test_a_stage_without_units_is_not_complete() -> None:
    assert not Survey({}).complete
    assert not survey([]).complete
    assert not Survey({"done": 0, "missing": 0, "stale": 0, "broken": 0}).complete


def test_a_tally_counts_what_others_have_made_since(tmp_path: Path) -> None:
    units = row(tmp_path, 3)
    make_units("weave", units, 0, 3)
    make_units("weave", [unit(tmp_path, "u1", "silk")])
    tally = Tally(units)
    assert (tally.done(), tally.total) == (1, 3)
    make_units("weave", units, 2, 3)
    assert tally.done() == 2
    make_units("weave", units, 1, 3)  # it was stale, and is made again
    manifest = units[1].folder / MANIFEST
    os.utime(manifest, ns=(0, manifest.stat().st_mtime_ns + 1))  # where a clock is coarse
    assert tally.done() == 3
