"""The event file of a release: each step once, equal bytes for equal ledgers, bounded, nothing private."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from kit.relay import resolve
from kit.tracking import curve_events, ledger
from tests.drawn import Attempt
from tests.relay import DEMO, NOWHERE

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.recipe import Recipe
    from kit.store.paths import Run


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return resolve.load(DEMO, [NOWHERE], "local").recipe


@pytest.fixture
def drawn(run: Run, recipe: Recipe) -> Run:
    """Two attempts that were killed, the second going back, and one that came to the end."""
    Attempt(run, recipe, 1, 0).steps(range(1, 13), validations=(5, 8, 10)).killed()
    Attempt(run, recipe, 2, 5).steps(range(6, 8)).killed()
    Attempt(run, recipe, 3, 5).steps(range(6, 16), validations=(8, 10, 15)).left(15, "done", "")
    return run


def written(
    run: Run, recipe: Recipe, folder: Path, last: int | None = None, most: int = 100
) -> Path:
    curve_events.write(run, recipe, last, folder, most)
    (path,) = folder.iterdir()
    return path


def steps_of(folder: Path, tag: str) -> list[int]:
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    return [event.step for event in events.Scalars(tag)]


def test_each_step_is_drawn_once_at_its_time(drawn: Run, recipe: Recipe, tmp_path: Path) -> None:
    path = written(drawn, recipe, tmp_path / "runs")
    assert path.name == "events.out.tfevents.0000001000.demo"
    events = EventAccumulator(str(path.parent), {"scalars": 0}).Reload()
    rows = ledger.canonical(drawn)
    for kind, key in (("step", "loss"), ("step", "tokens"), ("validation", "bits_per_byte")):
        shown = [(one.step, one.wall_time, one.value) for one in events.Scalars(f"train/{key}")]
        told = [
            (r["step"], r["time"], pytest.approx(dict(r)[key])) for r in rows if r["kind"] == kind
        ]
        assert shown == told, key
    assert steps_of(path.parent, "train/goodput") == [5, 8, 10, 15]


def test_a_release_before_the_end_has_the_steps_up_to_it(
    drawn: Run, recipe: Recipe, tmp_path: Path
) -> None:
    path = written(drawn, recipe, tmp_path / "runs", last=9)
    assert steps_of(path.parent, "train/loss") == [*range(1, 10)]
    assert steps_of(path.parent, "train/validation_loss") == [5, 8]


def test_of_a_long_run_every_few_steps_are_drawn_with_the_last_and_all_validations(
    drawn: Run, recipe: Recipe, tmp_path: Path
) -> None:
    path = written(drawn, recipe, tmp_path / "runs", most=7)
    assert steps_of(path.parent, "train/loss") == [3, 6, 9, 12, 15]
    assert steps_of(path.parent, "train/validation_loss") == [5, 8, 10, 15]


def test_equal_ledgers_give_equal_bytes_without_what_is_private(
    drawn: Run, recipe: Recipe, tmp_path: Path
) -> None:
    first, second = (written(drawn, recipe, tmp_path / name) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    records = [Event.FromString(one) for one in RawEventFileLoader(str(first)).Load()]
    assert [event.wall_time for event in records] == sorted(event.wall_time for event in records)
    said = first.read_text(encoding="utf-8", errors="replace")
    assert '"location": "web.txt.xz"' in said  # of a path the last part
    assert str(DEMO.parent) not in said
    assert "| here |" not in said  # the node, in the table of attempts
