"""Forks: a new run from a checkpoint of another, whole or not there."""

from __future__ import annotations

import errno
import math
import os
from typing import TYPE_CHECKING, Any

import pytest

from jobs import train
from kit.errors import CheckpointError, ConfigError, RunError
from kit.relay import resolve
from kit.run import directory
from kit.store.files import file_hash, read_json, write_json
from kit.training import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from kit.store.paths import Run
    from tests.conftest import Workdir


@pytest.fixture
def parent(workdir: Workdir) -> Run:
    """The run of the small recipe, with checkpoints of steps 5 and 10."""
    project = resolve.load(workdir.recipe_file)
    run = project.run
    write_json(run.recipe, project.recipe.model_dump(mode="json"))
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    write_json(run.identity, {"id": "0123", "name": "small"})
    write_json(run.attempt(1).start, {"from_step": 0})
    for step in (5, 10):
        folder = run.checkpoint(step, 1)
        (folder / "state").mkdir(parents=True)
        weights = folder / "state" / "weights.pt"
        weights.write_text(f"weights {step}")
        file = {"size": weights.stat().st_size, "xxh3": file_hash(weights)}
        write_json(folder / "checkpoint.json", {"step": step, "files": {"weights.pt": file}})
    return run


def fork(parent: Run, step: int, *changes: str, **options: Any) -> Run:
    train.fork_verb(parent.root, step, list(changes), **options)
    names = [c.removeprefix("name=") for c in changes if c.startswith("name=")]
    return type(parent)(parent.root.with_name(names[-1]))


def files_of(folder: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_a_fork_has_the_checkpoint_the_changes_and_its_origin(parent: Run) -> None:
    before = files_of(parent.root)
    made = fork(
        parent, 5, "name=slower", "training.learning_rate=0.0005", "cluster.training.minutes=9"
    )
    assert files_of(parent.root) == before
    (found,) = checkpoint.committed(made)
    assert (found.step, found.attempt) == (5, 0)
    assert checkpoint.newest(made) == found
    assert (found.folder / "state" / "weights.pt").read_text() == "weights 5"
    assert read_json(made.recipe)["training"]["learning_rate"] == 0.0005
    assert read_json(made.cluster)["training"]["minutes"] == 9
    assert read_json(made.identity)["id"] != read_json(parent.identity)["id"]
    assert (made.code / "kit" / "errors.py").is_file()
    assert made.environment.is_file()
    origin = read_json(made.origin)
    assert origin["run"] == parent.root.name
    assert origin["id"] == read_json(parent.identity)["id"]
    assert (origin["step"], origin["checkpoint"]) == (5, "step-00000005.attempt-0001")
    assert origin["changes"] == {
        "name": {"old": "small", "new": "slower"},
        "training.learning_rate": {"old": 0.001, "new": 0.0005},
    }


def test_a_fork_says_how_it_is_started_and_starts_as_it_stands(
    parent: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fork(parent, 5, "name=on", "training.steps=20")
    assert f"ekiden train run {made.root}\n" in capsys.readouterr().out
    project = resolve.load(made.root)
    assert directory.prepare(project) == made
    assert project.recipe.training.steps == 20


def test_the_files_are_linked_and_outlive_the_parents(parent: Run) -> None:
    made = fork(parent, 5, "name=on")
    mine = made.checkpoint(5, 0) / "state" / "weights.pt"
    assert mine.samefile(parent.checkpoint(5, 1) / "state" / "weights.pt")
    (parent.checkpoint(5, 1) / "state" / "weights.pt").unlink()
    assert checkpoint.committed(made)[0].problem() is None


def test_where_there_are_no_links_the_files_are_copied(
    parent: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for a file system without hard links, which this machine may not have.
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = fork(parent, 5, "name=on")
    assert not (made.checkpoint(5, 0) / "state" / "weights.pt").samefile(
        parent.checkpoint(5, 1) / "state" / "weights.pt"
    )
    assert checkpoint.committed(made)[0].problem() is None


def test_a_step_without_a_checkpoint_names_those_there_are(parent: Run) -> None:
    with pytest.raises(CheckpointError, match=r"--at 7: .*it has: 5, 10$"):
        fork(parent, 7, "name=on")


def test_a_broken_checkpoint_is_not_forked_and_leaves_nothing(parent: Run) -> None:
    (parent.checkpoint(5, 1) / "state" / "weights.pt").write_text("weights X")
    with pytest.raises(CheckpointError, match="has changed since"):
        fork(parent, 5, "name=on")
    assert list(parent.root.parent.iterdir()) == [parent.root]


def test_a_fork_that_fails_half_way_is_not_there(
    parent: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(KeyboardInterrupt):
        fork(parent, 5, "name=on")
    assert list(parent.root.parent.iterdir()) == [parent.root]


@pytest.mark.parametrize(
    "change",
    [
        "corpus.held_out=0.2", "tokenizer.vocab_size=900", "tokens.tasks=3", "model.n_layer=2",
        "model.n_embd=32", "model.n_head=4", "model.n_positions=32", "model.pad_vocab_to=64",
        "model.architecture=llama", "workspace=elsewhere", "training.precision=bf16",
        "training.decay_all=true", "training.deepspeed={zero_optimization: {stage: 1}}",
    ],
)  # fmt: skip
def test_what_the_checkpoint_was_made_with_stays(parent: Run, change: str) -> None:
    key = change.split("=", maxsplit=1)[0]
    with pytest.raises(ConfigError, match=f"^{key}: cannot change in a fork"):
        fork(parent, 5, "name=on", change)


@pytest.mark.parametrize(
    "change",
    ["training.seed=3", "training.global_batch=16", "model.dropout=0.1", "training.weight_decay=0"],
)
def test_all_else_may_change(parent: Run, change: str) -> None:
    assert fork(parent, 5, "name=on", change).recipe.is_file()


def test_a_fork_wants_a_name_of_its_own(parent: Run) -> None:
    for changes in (["training.seed=1"], ["name=small"]):
        with pytest.raises(ConfigError, match="name="):
            train.fork_verb(parent.root, 5, changes)
    fork(parent, 5, "name=on")
    with pytest.raises(RunError, match="give another name="):
        fork(parent, 5, "name=on")
    with pytest.raises(ConfigError, match=r"name='\.\./up'"):
        fork(parent, 5, "name=../up")


def test_a_drill_of_the_parent_is_not_the_forks(parent: Run) -> None:
    cluster = read_json(parent.cluster)
    write_json(parent.cluster, cluster | {"preempt_at_step": 5})
    assert read_json(fork(parent, 5, "name=on").cluster)["preempt_at_step"] is None


def test_a_fork_with_its_parents_schedule_has_no_record_of_one(parent: Run) -> None:
    for number, change in enumerate(("training.seed=3", "training.learning_rate=0.5")):
        assert "schedule" not in read_json(fork(parent, 5, f"name=on{number}", change).origin)


def test_a_longer_fork_goes_on_from_the_rate_of_its_parent(parent: Run) -> None:
    had = 0.001 * (1 + math.cos(math.pi * 5 / 10)) / 2
    (piece,) = read_json(fork(parent, 5, "name=on", "training.steps=20").origin)["schedule"][1:]
    assert piece == {"step": 5, "end": 20, "rate": pytest.approx(had)}
    anew = fork(parent, 5, "name=anew", "training.steps=20", schedule="anew")
    assert "schedule" not in read_json(anew.origin)


def test_a_fork_has_what_its_parent_was_amended_to(parent: Run) -> None:
    train.amend_verb(parent.root, ["training.steps=20"], schedule="anew")
    assert read_json(fork(parent, 5, "name=on").origin)["schedule"] == [
        {"step": 0, "end": 10, "rate": None},
        {"step": 5, "end": 20, "rate": None},
    ]


def test_a_decayed_branch_ends_after_so_many_steps(
    parent: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(parent.root)
    made = fork(parent, 5, "name=on", "training.decay_shape=linear", decay=3)
    assert (
        "begins with step 5 of small, decays over 3 steps; to start it:" in capsys.readouterr().out
    )
    assert files_of(parent.root) == before
    training = read_json(made.recipe)["training"]
    keys = ("steps", "decay", "decay_share", "decay_shape")
    assert [training[key] for key in keys] == [8, "wsd", 1.0, "linear"]
    had = 0.001 * (1 + math.cos(math.pi * 5 / 10)) / 2
    assert read_json(made.origin)["schedule"][-1] == {
        "step": 5,
        "end": 8,
        "rate": pytest.approx(had),
    }


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        (["training.steps=30"], {}, "remove training.steps, or"),
        (["training.learning_rate=1"], {}, "remove training.learning_rate, or"),
        ([], {"schedule": "anew"}, "remove --schedule anew, or"),
    ],
)
def test_what_contradicts_a_decayed_branch_is_refused(
    parent: Run, changes: list[str], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=f"^--decay 3: .*{said}"):
        fork(parent, 5, "name=on", *changes, decay=3, **options)
    assert list(parent.root.parent.iterdir()) == [parent.root]


def test_nothing_is_forked_to_train_at_a_rate_of_zero(parent: Run) -> None:
    for options in ({"decay": 3}, {"schedule": "continue"}):
        changes = [] if "decay" in options else ["training.steps=20"]
        with pytest.raises(ConfigError, match=r"^--at 10: the learning rate reached 0"):
            fork(parent, 10, "name=on", *changes, **options)
    assert fork(parent, 10, "name=on", "training.steps=20", schedule="anew").recipe.is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["training.loss_kernel=liger"], r"^training\.loss_kernel=liger: it needs a GPU"),
        (["training.gradient_dtype=bf16"], r"': training\.gradient_dtype=bf16: gradients of "),
        (
            ["training.global_batch=9", "training.micro_batch=3"],
            r"^training\.global_batch=9 is not a",
        ),
        (
            ["training.deepspeed={zero_optimization: {stage: 2, offload_param: {device: cpu}}}"],
            "offload_param has no effect with stage 2",
        ),
    ],
)
def test_a_fork_that_could_not_be_trained_is_not_made(
    parent: Run, changes: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        fork(parent, 5, "name=on", *changes)
    assert list(parent.root.parent.iterdir()) == [parent.root]


def test_a_fork_keeps_what_its_parent_was_trained_with(parent: Run) -> None:
    recipe = read_json(parent.recipe)
    recipe["training"]["deepspeed"] = {"zero_optimization": {"stage": 2, "offload_param": None}}
    write_json(parent.recipe, recipe)
    assert fork(parent, 5, "name=on", "training.seed=3").recipe.is_file()
