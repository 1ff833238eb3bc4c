"""The kit as a library: its examples, and what they show, over a run that is under way."""

from __future__ import annotations

import doctest
import itertools
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from kit import library
from kit.cluster import lock
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import shards
from kit.errors import CheckpointError, ConfigError, StageError
from kit.release import loaded as models
from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from kit.training import batches, checkpoint
from tests.relay import DEMO, FP32, SLOW, command, copy_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Path("work/demo/runs/demo")  # as the examples name it
# A model that is quick; blocks are the demo's, and so are the lengths in the examples.
TRAINING = (
    SLOW,
    FP32,
    "model.n_layer=1",
    "model.n_embd=32",
    "training.steps=20000",
    "training.checkpoint_every=30",
    "training.validation_blocks=8",
    "tracking.mlflow=null",
    "tracking.tensorboard=false",
    "cluster.training.ranks_per_node=1",
)


@pytest.fixture(scope="module")
def run(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The demo's run while it is trained, in the folder in which the examples are typed."""
    folder = tmp_path_factory.mktemp("library")
    workspace = copy_of(tokens, folder / "work/demo")
    command("train", "submit", str(DEMO), f"workspace={workspace}", *TRAINING)
    made = Workspace(workspace).run("demo")
    wait_until(lambda: bool(made.committed_checkpoints()), "a checkpoint")
    yield made
    made.stop.touch()
    wait_until(lambda: not lock.is_held(made), "the run's end")


@pytest.fixture
def here(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run, from the folder above `work`."""
    monkeypatch.chdir(run.root.parents[3])
    return Run(RUN)


def examples(text: str) -> list[tuple[str, str]]:
    return [(one.source, one.want) for one in doctest.DocTestParser().get_examples(text)]


def test_the_examples_of_the_module_hold(here: Run) -> None:
    found = doctest.testmod(library)
    assert found.attempted > 15
    assert found.failed == 0
    assert lock.is_held(here)


def test_the_examples_of_the_page_hold_and_have_those_of_the_module(here: Run, root: Path) -> None:
    page = root / "docs/library.md"
    names = {"library": library}
    found = doctest.testfile(str(page), module_relative=False, globs=names, encoding="utf-8")
    assert found.failed == 0
    shown = examples(page.read_text(encoding="utf-8"))
    for function in (library.tokens, library.documents, library.ledger, library.model):
        own = examples(function.__doc__ or "")
        assert own
        assert any(shown[at : at + len(own)] == own for at in range(len(shown)))


def test_a_sample_is_what_training_reads(here: Run) -> None:
    data = library.tokens(here.root)
    assert isinstance(data, Dataset)
    recipe = read_resolved(here.recipe, Recipe)
    read = batches.training_batches(recipe, data.row, 0, 1).read(sample=3 * len(data) + 5, micro=0)
    for place, block in enumerate(read):
        assert data.sample(3 * len(data) + 5 + place).tolist() == block.tolist()


def test_blocks_are_the_tokens_from_first_to_last(here: Run) -> None:
    data = library.tokens(here.root, "held-out")
    whole = np.concatenate(data.row.files)
    assert len(whole) == len(data.row)
    blocks = [block.numpy() for block in data]  # an IndexError ends it
    assert len(blocks) == len(data) == (len(whole) - 1) // data.length
    assert np.concatenate([block[:-1] for block in blocks]).tolist() == (
        whole[: len(data) * data.length].tolist()
    )
    assert data[-1].tolist() == blocks[-1].tolist()
    assert all(block[-1] == following[0] for block, following in itertools.pairwise(blocks))
    with pytest.raises(IndexError, match=rf"block -{len(data) + 1} of {len(data)}"):
        data[-len(data) - 1]


def test_documents_are_those_of_the_shards(here: Run) -> None:
    for part in shards.PARTS:
        plain = list(library.documents(here.root, part))
        segmented = list(library.documents(str(here.root), part, segmented=True))
        recipe = read_resolved(here.recipe, Recipe)
        counts = [
            read_json(one.folder / "manifest.json")["counts"][part].get("documents", 0)
            for one in shards.complete(recipe)
        ]
        assert len(plain) == len(segmented) == sum(counts) > 0
        for text, sentences in zip(plain, segmented, strict=True):
            assert sentences.endswith("\n")
            assert text == shards.plain_text(sentences.split("\n"))
            assert not set(text) & set(shards.MARKS)


def test_the_ledger_has_every_step_once_in_order(here: Run) -> None:
    before = [row for row in ledger.canonical(here) if row["kind"] == "step"]
    curve = library.ledger(here.root)
    assert curve.index.tolist()[: len(before)] == list(range(1, len(before) + 1))
    assert curve.loss.tolist()[: len(before)] == [row["loss"] for row in before]
    assert set(curve.kind) == {"step"}
    assert set(library.ledger(here.root, "validation").kind) == {"validation"}


def test_the_model_is_that_of_the_checkpoint(here: Run) -> None:
    step = max(one.step for one in checkpoint.committed(here))
    loaded = library.model(here.root)
    assert not loaded.training
    assert loaded.config.use_cache
    block = library.tokens(here.root)[0][None, :-1]
    with torch.no_grad():
        loss = float(loaded.float()(block, labels=block).loss)
    assert loss < 7.2  # ln 2000 is 7.6: it has learnt something by step 30
    with pytest.raises(CheckpointError, match=f"step {step + 1}: .* it has: "):
        library.model(here.root, step=step + 1)


def copy_of_run(here: Run, folder: Path) -> Run:
    """The run as it stands, in a workspace of its own, with a checkpoint that nobody removes."""
    wanted = shutil.ignore_patterns("logs", ".*", "supervisor.pid")
    shutil.copytree(here.root.parents[1], folder, ignore=wanted, symlinks=True)
    return Workspace(folder).run("demo")


@pytest.fixture
def own(here: Run, tmp_path: Path) -> Run:
    """A copy of the run with two checkpoints, which stand still."""
    here.stop.touch()
    wait_until(lambda: not lock.is_held(here), "the run's end")
    made = copy_of_run(here, tmp_path / "work")
    assert len(checkpoint.committed(made)) >= 2
    return made


def test_a_checkpoint_that_its_run_removes_meanwhile_gives_way_to_the_next(
    own: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, other = checkpoint.committed(own)[:2]
    load, loaded = models.load_model, []

    def removed(recipe: Recipe, source: Any) -> Any:
        loaded.append(source.checkpoint)
        if source.checkpoint == newest:
            shutil.rmtree(newest.folder)
        return load(recipe, source)

    monkeypatch.setattr(models, "load_model", removed)
    library.model(own.root)
    assert loaded == [newest, other]
    with pytest.raises(
        CheckpointError, match=f"no checkpoint of that step; it has: .*{other.step}"
    ):
        library.model(own.root, step=newest.step)


def test_a_damaged_checkpoint_is_refused(own: Run) -> None:
    chosen = checkpoint.committed(own)[0]
    path = next(path for path in chosen.state.rglob("*") if path.is_file())
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="has changed since it was written"):
        library.model(own.root)


def test_what_is_not_made_yet_says_which_job_makes_it(own: Run) -> None:
    shutil.rmtree(own.attempts)
    assert library.ledger(own.root).empty  # of a run that has not begun
    assert library.ledger(own.root).index.name == "step"
    shutil.rmtree(own.checkpoints)
    with pytest.raises(CheckpointError, match=r"no checkpoint; run ekiden train first"):
        library.model(own.root)
    workspace = Workspace(own.root.parents[1])
    shutil.rmtree(workspace.root / "tokens")
    with pytest.raises(StageError, match=r"missing; run ekiden tokenize first"):
        library.tokens(own.root)
    shutil.rmtree(workspace.root / "shards")
    with pytest.raises(StageError, match=r"missing; run ekiden preprocess first"):
        library.documents(own.root)


def test_a_mistake_is_one_line(here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for mistake, line in (
        (lambda: library.tokens(here.root, "test"), "part='test': give 'train' or 'held-out'"),
        (lambda: library.documents(here.root, "test"), "part='test': give 'train' or 'held-out'"),
        (lambda: library.ledger(here.root, "loss"), "kind='loss': give 'step' or 'validation'"),
        (lambda: library.ledger("elsewhere"), "elsewhere: no such run directory"),
    ):
        with pytest.raises(ConfigError, match=line) as caught:
            mistake()
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "pandas", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"needs pandas; run pip install pandas$"):
        library.ledger(here.root)
    assert os.fspath(RUN) in str(here.root)
