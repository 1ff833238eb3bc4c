"""Scores, samples and an export of a kept checkpoint, while the training of its run is under way."""

from __future__ import annotations

import json
import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import yaml

import jobs.evaluate
import jobs.export
import jobs.generate
from kit.cluster import lock
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import tokenizer_file
from kit.errors import CheckpointError, RunError, StageError
from kit.relay.submit import ensure_idle
from kit.release.generate import generate
from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger, scores
from tests import llama_cpp, warm
from tests.chaos.processes import starts
from tests.relay import DEMO, TINY, command, wait_until

from .conftest import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import typer

pytestmark = pytest.mark.end_to_end

STEP, STEPS = 10, 1_000_000
RULES = (
    *TINY,
    *ALONE,
    "training.validation_blocks=null",
    "training.micro_batch=16",
    f"training.steps={STEPS}",
    f"training.validate_every={STEP}",
    f"training.checkpoint_every={STEP}",
    f"training.keep_every={STEP}",
    "release.gguf=[q8_0]",
    "name=under-way",
)


TASK = """
task: terms
dataset_path: json
dataset_kwargs: {data_files: {test: terms.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_target: 0
doc_to_choice: [駅伝, 川]
target_delimiter: ""
metric_list: [{metric: acc}]
metadata: {version: 1.0, hub: someone/terms}
"""
SCORED = find_spec("lm_eval") is not None  # the extra `scores`


@pytest.fixture(scope="module")
def arguments(workspace: Path) -> tuple[str, ...]:
    (workspace / "terms.yaml").write_text(TASK)
    (workspace / "terms.jsonl").write_text('{"q": "走る"}\n{"q": "走者は"}\n')
    tasks = (f"release.tasks=[{workspace / 'terms.yaml'}]",) if SCORED else ()
    return (str(DEMO), f"workspace={workspace}", *RULES, *tasks)


@pytest.fixture(scope="module")
def run(workspace: Path, arguments: tuple[str, ...]) -> Iterator[Run]:
    """A run beyond its second checkpoint, whose rank stands still, alive, as long as it is looked at."""
    command("train", "submit", *arguments)
    run = Workspace(workspace).run("under-way")
    wait_until(lambda: len(run.committed_checkpoints()) > 1, "second checkpoint")
    (start,) = starts(run).values()
    start.send(signal.SIGSTOP)
    try:
        yield run
    finally:
        start.send(signal.SIGCONT)
        run.stop.touch()
        wait_until(lambda: not lock.is_held(run), "the run's end")


def relied_on(run: Run) -> dict[str, tuple[int, bytes]]:
    """The files of the run directory itself, with the time at which they were written."""
    files = [path for path in run.root.iterdir() if path.is_file()]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def call(app: typer.Typer, *arguments: str) -> None:
    """A command line in this process, which has imported what it needs."""
    app(list(arguments), standalone_mode=False)


def test_scores_of_a_checkpoint_come_while_the_training_lives(
    run: Run, arguments: tuple[str, ...]
) -> None:
    before, code = relied_on(run), run.code.readlink()
    said = warm.command("evaluate", "submit", *arguments, "--step", str(STEP))
    assert "is running; see" in said
    found_at = run.at(STEP).evaluation / "scores.json"
    wait_until(found_at.is_file, "scores")
    job = run.at(STEP).job("evaluate")
    wait_until(lambda: not lock.is_held(job), "the job's end")
    found = read_json(found_at)
    # Of the weights of that step, not of the newest: stored as bf16, with the tokens after the last block.
    (validation,) = [
        row for row in ledger.canonical(run) if row["kind"] == "validation" and row["step"] == STEP
    ]
    assert found["loss"] == pytest.approx(validation["validation_loss"], rel=2**-8)
    (step,) = [r for r in ledger.canonical(run) if r["kind"] == "step" and r["step"] == STEP]
    assert found["training"] == {
        "step": STEP,
        "steps": STEPS,
        "tokens": STEP * 16 * 64,
        "learning_rate": step["learning_rate"],
        "finished": False,
        "note": f"training was not finished: step 10 of 1,000,000, 10,240 tokens seen, learning rate "
        f"{step['learning_rate']:.3g}",
    }
    # Of the same text without its words: fewer tokens, which training has seen less often.
    assert 0 < found["raw_share"] < 1
    assert found["raw_bits_per_byte"] == pytest.approx(found["bits_per_byte"], rel=0.2)
    assert found["raw_bits_per_byte"] != found["bits_per_byte"]
    # The files it was given are gone, the run's own stand; nothing that the training relies on has changed.
    assert not list(job.checkpoints.rglob("*.pt"))
    assert list(run.checkpoint(STEP, 1).rglob("*.pt"))
    assert (relied_on(run), run.code.readlink()) == (before, code)
    assert not run.evaluation.exists()
    assert len(ledger.attempts(run)) == 1
    with pytest.raises(RunError, match="is already running this run"):
        ensure_idle(run)
    with pytest.raises(RunError, match="or give --step N to use a checkpoint now"):
        call(jobs.evaluate.app, "run", *arguments)


def test_samples_and_an_export_say_that_training_was_not_finished(
    run: Run, arguments: tuple[str, ...]
) -> None:
    step = ("--step", str(STEP))
    call(jobs.generate.app, "run", *arguments, *step)
    call(jobs.export.app, "run", *arguments, *step)
    at, recipe = run.at(STEP), read_resolved(run.recipe, Recipe)
    samples = read_json(at.samples / "samples.json")
    assert [sample["prompt"] for sample in samples] == recipe.release.prompts
    assert all(sample["training"]["finished"] is False for sample in samples)
    # Drawn from the checkpoint itself, and what the export writes.
    assert [s["text"] for s in samples] == generate(at.export, recipe, recipe.release.prompts)
    card = (at.export / "README.md").read_text(encoding="utf-8")
    assert "**The training was not finished: step 10 of 1,000,000, 10,240 tokens seen" in card
    assert f"at step {STEP} |" in card
    assert "goodput" not in card  # known at the end only
    japanese = (at.export / "README_ja.md").read_text(encoding="utf-8")
    assert (
        "**学習の途中のモデルです(全 1,000,000 ステップのうち 10 ステップ、10,240 トークンまで)。**"
        in japanese
    )
    assert read_json(at.export / "training.json")["step"] == STEP
    quantized = llama_cpp.Vocabulary(at.export / "under-way-Q8_0.gguf")
    ids = tokenizer_file.load(at.export).encode("霧浜県の海", add_special_tokens=False).ids
    assert quantized.tokenize("霧浜県の海") == ids
    rows = (at.export / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert max(json.loads(row)["step"] for row in rows) == STEP


@pytest.mark.skipif(not SCORED, reason="needs ekiden[scores]")
def test_scores_on_a_task_are_records_of_the_step(run: Run, arguments: tuple[str, ...]) -> None:
    """Made by the harness itself, in a process without a network."""
    step = ("--step", str(STEP))
    call(jobs.evaluate.app, "run", *arguments, *step)  # if the first test has not
    (row,) = read_json(run.at(STEP).task_scores / "terms" / "scores.json")
    assert (row["task"], row["metric"], row["text"]) == ("terms", "acc", "segmented")
    assert (row["examples"], row["shots"], row["version"]) == (2, 0, "1.0")
    assert row["value"] in (0.0, 0.5, 1.0)
    assert row["harness"].startswith("lm-eval ")
    recorded = {scores.column(one): one["value"] for one in scores.current(run)}
    assert recorded["terms/acc"] == row["value"]
    assert recorded["held-out/loss"] == read_json(run.at(STEP).evaluation / "scores.json")["loss"]
    call(jobs.export.app, "run", *arguments, *step)
    (entry,) = yaml.safe_load((run.at(STEP).export / ".eval_results/terms.yaml").read_text())
    assert entry["dataset"] == {"id": "someone/terms", "task_id": "default"}
    assert entry["value"] == row["value"]
    published = (run.at(STEP).export / "scores.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in published] == ["held-out"] * 3 + ["terms"]


def test_status_shows_what_was_made_beside_and_still_the_training(
    run: Run, arguments: tuple[str, ...]
) -> None:
    call(jobs.evaluate.app, "run", *arguments, "--step", str(STEP))  # if the first test has not
    found = json.loads(command("pipeline", "status", *arguments, "--json"))
    (made,) = [one for one in found["beside"] if "scores" in one]
    assert (made["step"], made["scores"]["training"]["finished"]) == (STEP, False)
    assert found["alive"] == f"process {run.supervisor.read_text()} running"
    assert found["stages"]["train"]["step"] > STEP
    assert found["scores"] is None


def test_a_step_without_a_checkpoint_names_those_there_are_and_leaves_nothing(
    run: Run, arguments: tuple[str, ...]
) -> None:
    for app in (jobs.evaluate.app, jobs.generate.app, jobs.export.app):
        with pytest.raises(CheckpointError, match=r"--step 7: .* no checkpoint .*it has: 10, 20"):
            call(app, "run", *arguments, "--step", "7")
    of_recipe = [one for one in arguments if not one.startswith("cluster.")]
    with pytest.raises(StageError, match=r"run ekiden export .* --step 7 first"):
        call(jobs.generate.app, "text", *of_recipe, "--step", "7", "--prompt", "駅")
    assert not run.at(7).root.exists()
