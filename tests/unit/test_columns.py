"""A ledger as columns holds what its rows hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kit.cluster.snapshot import RECENT, snapshot
from kit.store.files import write_json
from kit.store.paths import Run
from kit.tracking import columns, ledger

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

# Attempts: by how many steps each goes back, and its steps, validations and rollbacks by some steps.
ACTIONS = st.one_of(
    st.tuples(st.just("steps"), st.integers(1, 5)),
    st.tuples(st.just("validation"), st.just(0)),
    st.tuples(st.just("rollback"), st.integers(1, 6)),
)
ATTEMPTS = st.lists(st.tuples(st.integers(0, 6), st.lists(ACTIONS, max_size=5)), max_size=5)


def write(run: Run, attempts: list[tuple[int, list[tuple[str, int]]]]) -> None:
    """Their ledgers; every row has a loss of its own."""
    step, number_of_rows = 0, 0
    for number, (back, actions) in enumerate(attempts, start=1):
        step = max(0, step - back)
        write_json(run.attempt(number).start, {"from_step": step})
        rows: list[dict[str, Any]] = []
        for kind, amount in actions:
            number_of_rows += 1
            if kind == "steps":
                for _ in range(amount):
                    step, number_of_rows = step + 1, number_of_rows + 1
                    rows.append({"kind": "step", "step": step, "loss": float(number_of_rows)})
            elif kind == "validation":
                rows.append({"kind": kind, "step": step, "validation_loss": float(number_of_rows),
                             "time": 0.0, "seconds": 1.0})  # fmt: skip
            else:
                step = max(0, step - amount)
                rows.append({"kind": kind, "step": step, "to_step": step, "time": 0.0})
        run.attempt(number).ledger.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@given(attempts=ATTEMPTS)
def test_the_curve_is_the_same_however_runs_go_back(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[tuple[int, list[tuple[str, int]]]]
) -> None:
    run = Run(tmp_path_factory.mktemp("w") / "runs" / "r")
    write(run, attempts)
    seen, curve = snapshot(run), ledger.canonical(run)
    steps = [row for row in curve if row["kind"] == "step"]
    assert seen.steps.step.tolist() == [row["step"] for row in steps]
    assert seen.steps.loss.tolist() == [row["loss"] for row in steps]
    assert seen.recent == steps[-RECENT:]
    assert seen.validations == [row for row in curve if row["kind"] == "validation"]


def test_null_and_missing_values_are_not_a_number(run: Run) -> None:
    run.attempt(1).root.mkdir(parents=True)
    run.attempt(1).ledger.write_text('{"kind": "step", "step": 1, "loss": null}\n')
    steps = columns.read(run.attempt(1)).steps
    assert steps.step.tolist() == [1]
    for values in (steps.loss, steps.rate, steps.seconds, steps.time):
        assert np.isnan(values).all()


def test_only_what_has_changed_is_read_again(run: Run, tmp_path: Path) -> None:
    write(run, [(0, [("steps", 3)]), (1, [("steps", 3)])])
    before = snapshot(run)
    with run.attempt(2).ledger.open("a") as rows:
        rows.write('{"kind": "step", "step": 6, "loss": 0.5}\n')
    after = snapshot(run, before)
    assert after.attempts[0] is before.attempts[0]
    assert (before.steps.step[-1], after.steps.step[-1]) == (5, 6)
    assert after.recent == snapshot(run).recent
