"""The ledger: rows are kept whatever happens, and the curve has every step once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.store.files import write_json
from kit.store.paths import Run
from kit.tracking import ledger

if TYPE_CHECKING:
    from pathlib import Path


def attempt(
    run: Run,
    number: int,
    steps: range,
    *,
    validations: tuple[int, ...] = (),
    killed: bool = False,
) -> None:
    """What an attempt writes that does these steps; a killed one never closes its files."""
    place = run.attempt(number)
    place.root.mkdir(parents=True)
    from_step = steps.start - 1
    write_json(place.start, {"from_step": from_step, "time": 1_000.0 * number})
    book = ledger.Ledger(place)
    add: Any = book.add
    add("attempt", step=from_step)
    if from_step in validations:
        add("validation", step=from_step, validation_loss=9.0 + number)
    for step in steps:
        add("step", step=step, loss=number + step / 100, learning_rate=0.1)
        if step in validations:
            add("validation", step=step, validation_loss=number + step / 100)
        if step % 5 == 0:
            add("checkpoint", step=step, seconds=0.1)
    if killed:
        return
    book.close()


def curve(run: Run, kind: str = "step") -> list[tuple[int, int]]:
    """Step and attempt of each row of the curve."""
    return [(r["step"], r["attempt"]) for r in ledger.canonical(run) if r["kind"] == kind]


def test_a_row_is_there_as_soon_as_it_is_added(run: Run) -> None:
    run.attempt(1).root.mkdir()
    book = ledger.Ledger(run.attempt(1))
    row = book.add("step", step=1, loss=0.5)
    assert list(ledger.rows(run.attempt(1))) == [row]
    book.close()


def test_a_row_holds_its_keys_in_order_and_null_for_what_is_not_finite(run: Run) -> None:
    run.attempt(1).root.mkdir()
    book = ledger.Ledger(run.attempt(1))
    row = book.add(
        "step", step=1, loss=float("nan"), learning_rate=0.1, gradient_norm=float("inf"),
        loss_scale=2.0, sample=8, skipped=True, seconds=0.5, tokens_per_second=2.0, mfu=None,
        memory_bytes=3,
    )  # fmt: skip
    book.close()
    line = run.attempt(1).ledger.read_text(encoding="utf-8")
    assert line == (
        f'{{"kind": "step", "attempt": 1, "time": {row["time"]}, "step": 1, "loss": null, '
        '"learning_rate": 0.1, "gradient_norm": null, "loss_scale": 2.0, "sample": 8, '
        '"skipped": true, "seconds": 0.5, "tokens_per_second": 2.0, "mfu": null, '
        '"memory_bytes": 3}\n'
    )


def test_a_run_that_has_not_begun_has_no_curve(tmp_path: Path) -> None:
    assert ledger.attempts(Run(tmp_path)) == []
    assert ledger.canonical(Run(tmp_path)) == []


def test_the_curve_has_every_step_once_the_last_attempts(run: Run) -> None:
    attempt(run, 1, range(1, 11), validations=(0, 5, 10))
    attempt(run, 2, range(6, 9))
    attempt(run, 3, range(6, 13), validations=(10,))
    assert curve(run) == [(step, 1 if step < 6 else 3) for step in range(1, 13)]
    assert curve(run, "validation") == [(0, 1), (5, 1), (10, 3)]
    steps = [row["step"] for row in ledger.canonical(run)]
    assert steps == sorted(steps)


def test_an_attempt_that_went_no_step_takes_back_what_it_will_do_again(run: Run) -> None:
    attempt(run, 1, range(1, 9))
    attempt(run, 2, range(6, 6))
    assert curve(run) == [(step, 1) for step in range(1, 6)]


def test_a_validation_that_was_due_at_the_checkpoint_is_there_once(run: Run) -> None:
    attempt(run, 1, range(1, 4))  # interrupted in the validation of step 3, and saved
    attempt(run, 2, range(4, 6), validations=(3,))
    attempt(run, 3, range(4, 9), validations=(3, 6))
    assert curve(run, "validation") == [(3, 3), (6, 3)]
    assert curve(run) == [(1, 1), (2, 1), (3, 1), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3)]


def test_an_attempt_that_did_not_begin_changes_nothing(run: Run) -> None:
    attempt(run, 1, range(1, 9))
    run.attempt(2).root.mkdir()
    assert curve(run) == [(step, 1) for step in range(1, 9)]


def test_more_than_ten_attempts_are_in_order(run: Run) -> None:
    for number in range(1, 13):
        attempt(run, number, range(number, number + 1))
    assert curve(run) == [(number, number) for number in range(1, 13)]


def test_a_last_line_cut_by_a_crash_is_passed_over(run: Run) -> None:
    attempt(run, 1, range(1, 4))
    with run.attempt(1).ledger.open("a", encoding="utf-8") as out:
        out.write('{"kind": "step", "step": 4, "lo')
    assert curve(run) == [(1, 1), (2, 1), (3, 1)]
    attempt(run, 2, range(3, 5))
    assert curve(run) == [(1, 1), (2, 1), (3, 2), (4, 2)]


def roll_back(run: Run, number: int, to_step: int, steps: range) -> None:
    """What an attempt writes that goes back, and on from there."""
    book = ledger.Ledger(run.attempt(number))
    book.add("rollback", step=to_step + 1, to_step=to_step)
    for step in steps:
        book.add("step", step=step, loss=-float(step))
    book.close()


def test_what_an_attempt_went_back_on_is_replaced(run: Run) -> None:
    attempt(run, 1, range(1, 9), validations=(5,))
    roll_back(run, 1, 4, range(5, 8))
    rows = [row for row in ledger.canonical(run) if row["kind"] == "step"]
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert [row["loss"] < 0 for row in rows] == [False] * 4 + [True] * 3
    assert curve(run, "validation") == []


@pytest.mark.parametrize("block", [7, 64, 300, 1 << 18])
def test_the_end_of_a_curve_is_the_end_of_the_whole(
    run: Run, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_BLOCK", block)
    attempt(run, 1, range(1, 9), validations=(0, 5))
    roll_back(run, 1, 4, range(5, 8))
    with run.attempt(1).ledger.open("a", encoding="utf-8") as out:
        out.write('{"kind": "step", "step": 8, "lo')
    attempt(run, 2, range(7, 12), validations=(10,))
    attempt(run, 3, range(12, 12))
    attempt(run, 4, range(12, 15))
    whole = ledger.canonical(run)
    assert len(whole) > 14
    for after in range(-1, 16):
        assert ledger.canonical(run, after) == [row for row in whole if row["step"] > after]


def test_the_end_of_a_long_ledger_is_not_read_from_its_beginning(run: Run) -> None:
    attempt(run, 1, range(1, 9))
    path = run.attempt(1).ledger
    path.write_bytes(b"no JSON at all\n" * 100_000 + path.read_bytes())
    assert [row["step"] for row in ledger.canonical(run, 5)] == [6, 7, 8]


def test_two_runs_of_one_recipe_are_compared_without_clock_and_speed(run: Run) -> None:
    attempt(run, 1, range(1, 3))
    first = ledger.canonical(run)
    other = [row | {"time": 0.0, "attempt": 7, "tokens_per_second": 3.0} for row in first]
    assert ledger.comparable(first) == ledger.comparable(other)
    changed = [row | {"loss": 0.0} for row in first]
    assert ledger.comparable(first) != ledger.comparable(changed)


def samples(run: Run) -> list[tuple[int, str, str]]:
    return [(row["step"], row["prompt"], row["text"]) for row in ledger.samples(run)]


def test_samples_are_told_once_for_each_validation_and_prompt(run: Run) -> None:
    for number, from_step, steps in ((1, 0, (0, 5, 10)), (2, 5, (5, 10)), (3, 5, (10,))):
        place = run.attempt(number)
        place.root.mkdir(parents=True)
        write_json(place.start, {"from_step": from_step, "time": 1_000.0 * number})
        book = ledger.Ledger(place)
        for step in steps:
            for prompt in ("駅伝は", "今日は"):
                book.add("sample", step=step, prompt=prompt, text=f"{prompt} {number}")
        if number == 3:
            what = {"what": "loss nan", "passed_over": [0, 8]}
            book.add("sample", step=15, prompt="駅伝は", text="undone")
            book.add("rollback", step=16, to_step=10, **what)
        book.close()
    assert samples(run) == [
        (0, "駅伝は", "駅伝は 1"),
        (0, "今日は", "今日は 1"),
        (5, "駅伝は", "駅伝は 2"),
        (5, "今日は", "今日は 2"),
        (10, "駅伝は", "駅伝は 3"),
        (10, "今日は", "今日は 3"),
    ]
