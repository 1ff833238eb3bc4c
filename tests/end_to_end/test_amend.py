"""Amended, forked and rehearsed runs, on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit import stage
from kit.config import Recipe
from kit.files import read_json, write_json
from kit.sections import read_resolved
from kit.tokenizer import choice, encode
from kit.tracking import ledger
from kit.workspace import Run, Workspace
from tests.relay import DEMO, FP32, command, curve, final_files

from .conftest import ALONE

pytestmark = pytest.mark.end_to_end

# Small enough for a second or so of training: what takes the time is the start of the ranks.
SMALL = (
    FP32,
    *ALONE,
    "model.n_layer=1",
    "model.n_embd=32",
    "model.n_positions=64",
    "training.micro_batch=16",
    "training.steps=20",
    "training.validate_every=10",
    "training.checkpoint_every=10",
    "tracking.mlflow=null",
    "tracking.tensorboard=false",
)


@pytest.fixture(scope="module")
def arguments(workspace: Path) -> tuple[str, ...]:
    """A small recipe over a workspace whose tokens are made."""
    return (str(DEMO), f"workspace={workspace}", *SMALL)


@pytest.fixture(scope="module")
def parent(arguments: tuple[str, ...]) -> Run:
    """A run of 20 steps, done, with checkpoints of steps 10 and 20."""
    command("train", "run", *arguments)
    return Workspace(Path(arguments[1].removeprefix("workspace="))).run("demo")


def fork(parent: Run, name: str, *changes: str) -> Run:
    """A fork of step 10, trained to its end as its command says."""
    said = command("train", "fork", str(parent.root), "--at", "10", f"name={name}", *changes)
    made = Run(parent.root.with_name(name))
    assert f"python -m jobs.train submit {made.root}" in said
    command("train", "run", str(made.root))
    return made


def test_a_fork_with_the_same_settings_is_its_parent_bit_for_bit(parent: Run) -> None:
    made = fork(parent, "same")
    assert read_json(made.attempt(1).start)["from_step"] == 10
    assert final_files(made) == final_files(parent)
    assert curve(made) == [row for row in curve(parent) if row["step"] > 10]


def test_a_fork_with_another_learning_rate_goes_its_own_way(parent: Run) -> None:
    made = fork(parent, "slower", "training.learning_rate=1e-3")
    assert final_files(made) != final_files(parent)
    first, other = (
        next(row for row in curve(run) if row["kind"] == "step" and row["step"] == 11)
        for run in (made, parent)
    )
    assert first["loss"] == other["loss"]  # of the weights that they share
    assert first["learning_rate"] < other["learning_rate"]


def test_an_amended_run_goes_on_from_the_unchanged_recipe(
    parent: Run, arguments: tuple[str, ...]
) -> None:
    said = command("train", "amend", str(parent.root), "training.steps=24", "release.seed=7")
    assert "training.steps: 20 -> 24" in said
    command("train", "run", *arguments)
    steps = [row["step"] for row in ledger.canonical(parent) if row["kind"] == "step"]
    assert steps == list(range(1, 25))
    assert read_json(parent.attempt(2).start)["from_step"] == 20
    rows = [row for row in ledger.rows(parent.attempt(2)) if row["kind"] == "amendment"]
    assert [(row["key"], row["old"], row["new"]) for row in rows] == [
        ("training.steps", 20, 24),
        ("release.seed", 0, 7),
    ]
    assert "nothing to submit" in command("train", "submit", *arguments)


def test_a_rehearsal_says_what_the_whole_run_would_take(
    parent: Run, arguments: tuple[str, ...]
) -> None:
    said = command("train", "rehearse", *arguments, "--steps", "12", "--json")
    found = json.loads(said[said.index("{") : said.rindex("}") + 1])
    rehearsal = Run(Path(found["rehearsal"]))
    assert rehearsal.root.name == "demo-rehearsal"
    steps = [row["step"] for row in ledger.canonical(rehearsal) if row["kind"] == "step"]
    assert steps == list(range(1, 13))
    measured, whole = found["measured"], found["whole"]
    assert measured["steps"] == 7
    for key in ("tokens_per_second", "memory_bytes", "checkpoint_bytes", "validation_seconds"):
        assert measured[key] > 0, key
    assert whole["attempts"] == 1
    assert whole["disk_bytes"] == 3 * measured["checkpoint_bytes"]


def test_a_run_does_not_go_on_with_tokens_of_another_tokenizer(
    parent: Run, arguments: tuple[str, ...]
) -> None:
    recipe = read_resolved(parent.recipe, Recipe)
    workspace = Workspace(Path(recipe.workspace))
    names = {vocabulary.name for vocabulary in recipe.tokenizer.vocabularies()}
    (other,) = names - {read_json(workspace.tokenizer / "manifest.json")["candidate"]}
    assert "tokenizer would be made anew" in command(
        "tokenizer", "run", *arguments, "--pick", other, code=2
    )
    write_json(workspace.pick, {"candidate": other})  # by hand, it can be done
    for module in (choice, encode):
        stage.run(module.__name__, module.units(recipe))
    command("train", "amend", str(parent.root), "training.steps=30")
    before = final_files(parent)
    for job in ("train", "evaluate"):
        said = command(job, "run", *arguments, code=2)
        assert "was trained on other tokens than the workspace holds now" in said
    assert final_files(parent) == before
