"""The ledger of evaluations, and the forms in which a release states its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kit.release import results
from kit.tracking import scores

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run
    from kit.tracking.scores import ScoreRow
    from tests.conftest import Workdir


def row(step: int, task: str, value: float, **other: Any) -> ScoreRow:
    made: Any = {
        "kind": "score",
        "time": 1_795_996_800.0 + step,  # 2026-11-30, 00:00 UTC
        "step": step,
        "checkpoint": f"step-{step:08}.attempt-0001",
        "weights": "a1",
        "dtype": "bfloat16",
        "task": task,
        "metric": "acc",
        "value": value,
        "data": "d4",
        "main": True,
        **other,
    }
    found: ScoreRow = made
    return found


JNLI: dict[str, Any] = {
    "text": "segmented",
    "version": "1.0",
    "harness": "lm-eval 0.4.13",
    "shots": 3,
    "examples": 2434,
    "stderr": 0.01,
    "hub": ["Rakuten/JGLUE", "JNLI"],
}


@pytest.fixture
def run(workdir: Workdir) -> Run:
    run = workdir.workspace.run("small")
    run.root.mkdir(parents=True)
    return run


def test_of_a_score_that_was_measured_again_the_last_counts(run: Run) -> None:
    scores.add(run, [row(20, "jnli", 0.1), row(10, "jnli", 0.2)])
    scores.add(run, [row(20, "jnli", 0.3), row(20, "jnli", 0.4, text="raw")])
    found = [(one["step"], scores.column(one), one["value"]) for one in scores.current(run)]
    assert found == [(10, "jnli/acc", 0.2), (20, "jnli/acc", 0.3), (20, "jnli/raw/acc", 0.4)]


def test_scores_of_a_checkpoint_that_was_replaced_are_not_mixed_with_the_new_ones(run: Run) -> None:
    scores.add(run, [row(20, "jnli", 0.1), row(20, "jsquad", 0.2), row(10, "jsquad", 0.3)])
    scores.add(run, [row(20, "jnli", 0.4, weights="b2")])
    found = [(one["step"], one["task"], one["value"]) for one in scores.current(run)]
    assert found == [(10, "jsquad", 0.3), (20, "jnli", 0.4)]


def test_a_row_cut_off_by_a_crash_is_skipped(run: Run) -> None:
    scores.add(run, [row(10, "jnli", 0.2)])
    with run.scores.open("a") as file:
        file.write('{"kind": "sco')
    scores.add(run, [row(20, "jnli", 0.3)])
    assert [one["step"] for one in scores.rows(run)] == [10, 20]


def test_a_table_has_a_line_for_each_step(run: Run) -> None:
    assert scores.lines(scores.current(run))[0].startswith(
        "no scores yet; type ekiden evaluate run"
    )
    rows = [row(1000, "jnli", 0.25), row(20, "held-out", 2.5, metric="bits_per_byte")]
    scores.add(
        run, [*rows, row(20, "jnli", 0.125), row(20, "jnli", 9, metric="acc_norm", main=False)]
    )
    assert scores.lines(scores.main(scores.current(run))) == [
        " step  held-out/bits_per_byte  jnli/acc",
        "   20                     2.5     0.125",
        "1,000                       -      0.25",
    ]
    assert "jnli/acc_norm" in scores.lines(scores.current(run))[0]


def test_the_hub_gets_a_file_for_each_task_that_it_knows(tmp_path: Path) -> None:
    rows = [row(20, "held-out", 2.5), row(20, "jnli", 0.5, **JNLI), row(20, "own", 0.75)]
    rows.append(row(20, "jnli", 0.4, **JNLI | {"main": False}))
    results.write(tmp_path, rows)
    (file,) = (tmp_path / ".eval_results").iterdir()
    assert file.name == "jnli.yaml"
    assert yaml.safe_load(file.read_text()) == [
        {
            "dataset": {"id": "Rakuten/JGLUE", "task_id": "JNLI"},
            "value": 0.5,
            "date": "2026-11-30",
            "source": {
                "url": "https://github.com/EleutherAI/lm-evaluation-harness",
                "name": "lm-eval 0.4.13",
            },
            "notes": "acc, 3-shot, 2,434 examples, segmented text, standard error 0.0100, lm-eval 0.4.13, "
            "version 1.0 of the task, data d4, step 20",
        }
    ]
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 4
    results.write(tmp_path, rows[:1])
    assert not (tmp_path / ".eval_results").exists()
