"""What MLflow is told of a run besides its curve: parameters, tags, the status, readings of GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.cluster import decisions
from kit.store.files import write_json
from kit.tracking import ledger
from kit.tracking.mlflow import curve, params, results, status, tags
from kit.tracking.mlflow.store import NO_POSITION

if TYPE_CHECKING:
    from kit.store.paths import Run
    from tests.conftest import Workdir

SECRET = "s3cr3t"


def test_every_key_of_a_recipe_is_a_parameter(workdir: Workdir) -> None:
    recipe = workdir.recipe()
    found = params.of_recipe(recipe)
    assert found.cut == []
    assert {
        "name": "small",
        "corpus.sources.web.kind": "plaintext",
        "tokenizer.vocab_size": "1200",
        "training.health.on_bad_step": "skip",
        "training.deepspeed.zero_optimization.stage": "2",
        "release.prompts": '["日本の"]',
    }.items() <= found.values.items()

    def leaves(tree: Any) -> int:
        return sum(map(leaves, tree.values())) if isinstance(tree, dict) and tree else 1

    published = {
        key: tree for key, tree in recipe.model_dump(mode="json").items() if key != "alerts"
    }
    assert len(found.values) == leaves(published)  # the addresses of alerts are secrets


def test_a_list_of_sections_is_numbered() -> None:
    tree = {"candidates": [{"size": 1}, {"size": 2, "kind": None}], "none": [], "empty": {}}
    assert params.flat(tree) == {
        "candidates.0.size": 1, "candidates.1.size": 2, "candidates.1.kind": None,
        "none": "[]", "empty": "{}",
    }  # fmt: skip


def test_passwords_in_addresses_are_masked(workdir: Workdir) -> None:
    recipe = workdir.recipe(f"tracking.mlflow=http://ann:{SECRET}@host:5000")
    assert params.of_recipe(recipe).values["tracking.mlflow"] == "http://***@host:5000"


def test_nothing_is_cut_without_a_word() -> None:
    long, name = "x" * 6001, "k" * 251
    found = params.within_limits({"a": "x" * 6000, "b": long, name: 1, "bad@key": 2})
    assert found.cut == ["b", name]
    assert [len(value) for value in found.values.values()] == [6000, 6000, 1, 1]
    assert found.values["b"].endswith("(cut)")
    assert [*found.values][2:] == ["k" * 250, "bad_key"]
    many = params.within_limits({f"key{number}": number for number in range(2001)})
    assert (len(many.values), many.cut) == (2000, ["key2000"])


def begin(run: Run, number: int, time: float) -> None:
    attempt = run.attempt(number)
    attempt.root.mkdir()
    job = f"17.{number - 1}"
    write_json(attempt.start, {"job": job, "node": f"n{number}", "from_step": 0, "time": time})


def end(run: Run, number: int, outcome: str, reason: str = "") -> None:
    fields = {
        "outcome": outcome,
        "reason": reason,
        "step": 5,
        "saved": 5,
        "job": f"17.{number - 1}",
    }
    write_json(run.attempt(number).end, {**fields, "time": 0.0})


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        ("interrupted", "SCHEDULED"),
        ("done", "FINISHED"),
        ("stopped", "KILLED"),
        ("failed", "FAILED"),
    ],
)
def test_an_attempt_is_running_until_it_ends(run: Run, outcome: str, shown: str) -> None:
    assert status.of_files(run) == "SCHEDULED"
    begin(run, 1, 10.0)
    assert status.of_files(run) == "RUNNING"
    end(run, 1, outcome)
    assert status.of_files(run) == shown
    begin(run, 2, 20.0)
    assert status.of_files(run) == "RUNNING"


def test_the_last_row_of_a_ledger_ends_an_attempt_before_its_file_is_written(run: Run) -> None:
    begin(run, 1, 10.0)
    book = ledger.Ledger(run.attempt(1))
    book.add("end", outcome="stopped", reason="STOP file", step=5, saved=5)
    assert status.of_files(run) == "KILLED"
    with run.attempt(1).ledger.open("a") as out:
        out.write('{"kind": "st')  # a torn line
    assert status.of_files(run) == "RUNNING"
    book.close()


@pytest.mark.parametrize(
    ("again", "reason", "shown"),
    [
        (True, "crash (exit code 1)", "SCHEDULED"),
        (True, "preemption", "SCHEDULED"),
        (False, decisions.CANCELLED, "KILLED"),
        (False, f"{decisions.STOPPED}: STOP file", "KILLED"),
        (False, f"{decisions.FAILURE}: out of memory", "FAILED"),
        (False, "crash, 4 times without a new checkpoint (exit code 1)", "FAILED"),
        (False, "done", "FINISHED"),
        (False, decisions.BY_SLURM, "RUNNING"),
        (False, decisions.SUPERSEDED, "RUNNING"),
    ],
)
def test_a_killed_attempt_has_the_status_of_the_decision_on_its_job(
    run: Run, again: bool, reason: str, shown: str
) -> None:
    begin(run, 1, 10.0)
    decisions.record(run, "17.0", "evaluate", decisions.Decision(False, "failed 3 times"))
    decisions.record(run, "17.0", "train", decisions.Decision(again, reason))
    assert status.of_files(run) == shown


def test_a_run_that_is_submitted_again_waits(run: Run) -> None:
    begin(run, 1, 10.0)
    decisions.record(run, "17.0", "train", decisions.Decision(False, decisions.CANCELLED))
    decided = decisions.read(run)[0]["time"]
    write_json(run.jobs, {"time": decided + 1, "slurm": {"evaluate": "18"}})
    assert status.of_files(run) == "KILLED"
    write_json(run.jobs, {"time": decided + 1, "slurm": {"train": "18"}})
    assert status.of_files(run) == "SCHEDULED"


def test_tags_name_jobs_nodes_and_how_attempts_ended(run: Run, workdir: Workdir) -> None:
    for number in (1, 2, 3):
        begin(run, number, 10.0 * number)
    end(run, 1, "interrupted", "SIGTERM")
    found = tags.of_run(run, workdir.recipe())
    assert found["ekiden.jobs"] == "17"
    assert found["ekiden.nodes"] == "n1, n2, n3"
    assert found["ekiden.checkpoints"] == str(run.checkpoints)
    assert found["ekiden.attempts"].splitlines() == [
        "1: job 17.0 on n1, from step 0 to 5, interrupted: SIGTERM",
        "2: job 17.1 on n2, from step 0",
        "3: job 17.2 on n3, from step 0",
    ]


def test_samples_of_the_training_are_one_text_without_a_prompt_twice(run: Run) -> None:
    begin(run, 1, 10.0)
    book = ledger.Ledger(run.attempt(1))
    for step in (10, 20):
        book.add("sample", step=step, prompt="駅伝は", text=f"駅伝は{step}")
    book.close()
    assert results._samples(run) == "step 10\n駅伝は10\n\nstep 20\n駅伝は20\n"


def test_of_many_attempts_a_tag_names_the_last_and_how_many_it_leaves_out() -> None:
    text = tags._shortened([f"attempt {number:04d}" for number in range(1000)], "\n")
    first, *rest = text.splitlines()
    assert len(text) <= 5000
    assert first == f"({1000 - len(rest)} earlier ones left out)"
    assert rest[-1] == "attempt 0999"


def test_readings_of_gpus_are_sent_once_a_minute_over_all_attempts(run: Run) -> None:
    def add(number: int, rows: list[tuple[str, int, float]]) -> None:
        with run.attempt(number).ledger.open("a") as out:
            for kind, step, time in rows:
                out.write(f'{{"kind": "{kind}", "step": {step}, "time": {time}, "gpus": []}}\n')

    begin(run, 1, 10.0)
    add(1, [("step", s, 10.0 * s) for s in (1, 2)] + [("devices", 2, 100.0), ("devices", 2, 110.0)])
    rows, after = curve.device_rows(run, NO_POSITION)
    assert [row["time"] for row in rows] == [100.0]
    assert curve.device_rows(run, after)[0] == []
    begin(run, 2, 150.0)
    add(
        2, [("devices", 2, 155.0), ("devices", 2, 160.0), ("step", 3, 200.0), ("devices", 3, 230.0)]
    )
    rows, after = curve.device_rows(run, after)
    assert [row["time"] for row in rows] == [160.0, 230.0]
    assert after == {"attempt": 2, "step": 3, "time": 230.0}


def test_a_reading_has_the_names_and_units_of_mlflows_own_system_metrics() -> None:
    gpu: Any = {
        "index": 3, "utilisation": 0.5, "temperature": 60, "power": 300.0, "clock": None,
        "memory_bytes": 2_000_000_000,
    }  # fmt: skip
    row: Any = {"kind": "devices", "time": 1.0, "step": 1, "attempt": 1, "gpus": [gpu]}
    assert curve.device_values(row) == {
        "system/gpu_3_utilization_percentage": 50.0,
        "system/gpu_3_temperature_celsius": 60.0,
        "system/gpu_3_power_usage_watts": 300.0,
        "system/gpu_3_memory_usage_megabytes": 2000.0,
    }
