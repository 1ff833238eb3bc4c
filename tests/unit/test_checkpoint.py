"""Checkpoints: committed or not there; the newer attempt wins; the broken one is put aside."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from kit.errors import CheckpointError
from kit.files import write_json
from kit.training import checkpoint
from kit.workspace import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Words:
    """The smallest state there is: a file for each rank, named as DeepSpeed names them."""

    def __init__(self, rank: int = 0, content: str = "state") -> None:
        self.rank, self.content = rank, content
        self.loaded = ""

    def save(self, folder: Path, step: int, state: dict[str, Any]) -> None:
        (folder / f"zero_pp_rank_{self.rank}_mp_rank_00.pt").write_text(f"{self.content} {step}")
        if self.rank == 0:
            (folder / "mp_rank_00_model_states.pt").write_text("weights")

    def load(self, folder: Path) -> dict[str, Any]:
        self.loaded = (folder / f"zero_pp_rank_{self.rank}_mp_rank_00.pt").read_text()
        return {}


@dataclass(frozen=True)
class Team:
    """The ranks that save together: by default one, with nobody to wait for."""

    rank: int = 0
    ranks: int = 1
    wait: Callable[[], object] = lambda: None

    def barrier(self) -> None:
        self.wait()


def begin(run: Run, attempt: int, from_step: int = 0) -> None:
    run.attempt(attempt).root.mkdir()
    write_json(run.attempt(attempt).start, {"from_step": from_step})


def save(run: Run, attempt: int, step: int, content: str = "state") -> checkpoint.Checkpoint:
    return checkpoint.save(
        run, run.attempt(attempt), Words(content=content), step, {"data": "d"}, Team()
    )


def names(run: Run) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def chosen(run: Run) -> tuple[int, int] | None:
    found = checkpoint.newest(run)
    return (found.attempt, found.step) if found else None


def test_what_is_saved_is_loaded(run: Run) -> None:
    begin(run, 1)
    saved = save(run, 1, 50, "the sash")
    assert names(run) == ["step-00000050.attempt-0001"]
    found = checkpoint.newest(run)
    assert found == saved
    assert found.record["step"] == 50
    assert found.record["ranks"] == 1
    assert found.record["data"] == "d"
    assert found.weights.read_text() == "weights"
    state = Words()
    found.load(state)
    assert state.loaded == "the sash 50"


def test_every_rank_writes_and_hashes_its_own_files(run: Run) -> None:
    begin(run, 1)
    barrier = threading.Barrier(3)
    threads = [
        threading.Thread(
            target=checkpoint.save,
            args=(run, run.attempt(1), Words(rank), 7, {}, Team(rank, 3, barrier.wait)),
        )
        for rank in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = checkpoint.newest(run)
    assert found is not None
    assert sorted(found.record["files"]) == [
        "mp_rank_00_model_states.pt",
        *(f"zero_pp_rank_{rank}_mp_rank_00.pt" for rank in range(3)),
    ]
    assert sorted(path.name for path in found.folder.iterdir()) == ["checkpoint.json", "state"]


def test_the_latest_step_of_an_attempt_is_chosen(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100, 9):
        save(run, 1, step)
    assert chosen(run) == (1, 100)


def test_where_nothing_is_committed_nothing_is_chosen(run: Run) -> None:
    assert checkpoint.newest(run) is None
    assert checkpoint.newest(Run(run.root / "nowhere")) is None
    with pytest.raises(CheckpointError, match=r"no checkpoint; run jobs\.train first"):
        checkpoint.final(run, "jobs.train")


def test_a_newer_attempt_wins_over_a_later_step_of_an_older_one(run: Run) -> None:
    begin(run, 1)
    save(run, 1, 50)
    begin(run, 2, from_step=50)
    save(run, 1, 200)  # attempt 1 lives on, on a node that was taken for lost
    assert chosen(run) == (1, 50)
    save(run, 2, 60)
    assert chosen(run) == (2, 60)
    begin(run, 3, from_step=60)
    save(run, 1, 300)
    save(run, 2, 70)
    assert chosen(run) == (2, 60)


def test_an_older_attempt_cannot_overwrite_a_newer_ones_checkpoint(run: Run) -> None:
    begin(run, 1)
    save(run, 1, 50)
    begin(run, 2, from_step=50)
    save(run, 2, 100, "of attempt 2")
    save(run, 1, 100, "of attempt 1")
    found = checkpoint.newest(run)
    assert found is not None
    state = Words()
    found.load(state)
    assert state.loaded == "of attempt 2 100"


def test_an_attempt_that_began_and_left_nothing_goes_back_no_further(run: Run) -> None:
    begin(run, 1)
    save(run, 1, 50)
    save(run, 1, 100)
    begin(run, 2, from_step=100)
    begin(run, 3, from_step=100)
    assert chosen(run) == (1, 100)


def break_by(kind: str, folder: Path) -> None:
    file = folder / "state" / "mp_rank_00_model_states.pt"
    if kind == "a flipped byte":
        file.write_text("weighty")
    elif kind == "a cut file":
        file.write_text("weight")
    elif kind == "a missing file":
        file.unlink()
    elif kind == "no record":
        (folder / "checkpoint.json").unlink()
    else:
        (folder / "checkpoint.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    "kind", ["a flipped byte", "a cut file", "a missing file", "no record", "a damaged record"]
)
def test_a_broken_checkpoint_is_put_aside_and_the_one_before_is_chosen(
    run: Run, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(run, 1)
    save(run, 1, 50)
    broken = save(run, 1, 100)
    break_by(kind, broken.folder)
    assert chosen(run) == (1, 50)
    assert "step-00000100.attempt-0001" in capsys.readouterr().err
    assert [name.startswith("broken-step-00000100") for name in names(run)] == [True, False]
    assert chosen(run) == (1, 50)
    save(run, 1, 100)
    assert chosen(run) == (1, 100)


def test_where_every_checkpoint_is_broken_nothing_begins_anew_unasked(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100):
        break_by("a flipped byte", save(run, 1, step).folder)
    for _ in range(2):  # at the first look, and at every later one
        with pytest.raises(CheckpointError, match="every checkpoint is broken"):
            checkpoint.newest(run)
    assert len(names(run)) == 2


def test_a_file_system_that_fails_makes_no_checkpoint_broken(run: Run) -> None:
    begin(run, 1)
    folder = save(run, 1, 50).folder
    record = (folder / "checkpoint.json").read_bytes()
    (folder / "checkpoint.json").unlink()
    (folder / "checkpoint.json").mkdir()  # reading it is an error of the system, not a missing file
    with pytest.raises(OSError, match="directory"):
        checkpoint.newest(run)
    (folder / "checkpoint.json").rmdir()
    (folder / "checkpoint.json").write_bytes(record)
    assert chosen(run) == (1, 50)


def test_pruning_leaves_alone_what_a_newer_attempt_is_saving(run: Run) -> None:
    begin(run, 1)
    begin(run, 2)
    save(run, 1, 50)
    staging = run.checkpoints / ".step-00000060.attempt-0002"
    staging.mkdir()
    checkpoint.prune(
        run, 2, run.attempt(1)
    )  # attempt 1 lives on, on a node that was taken for lost
    assert staging.is_dir()
    checkpoint.prune(run, 2, run.attempt(2))
    assert not staging.exists()


KILLED_SAVE = """
import os, signal, sys
from pathlib import Path
from kit.training import checkpoint
from kit.workspace import Run

run, when = Run(Path(sys.argv[1])), sys.argv[2]
def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Words:
    def save(self, folder, step, state):
        with (folder / "mp_rank_00_model_states.pt").open("w") as out:
            out.write("half of it")
            out.flush()
            if when == "in the middle of a file":
                die()

class Team:
    rank, ranks, calls = 0, 1, 0
    def barrier(self):
        self.calls += 1
        if (when, self.calls) in (("before the state", 1), ("before the manifest", 2)):
            die()
if when == "before the rename":
    checkpoint.sync_directory = lambda path: None
    whole = checkpoint.write_json
    def write_and_die(path, value):
        whole(path, value)
        if path.name == "checkpoint.json":
            die()
    checkpoint.write_json = write_and_die
checkpoint.save(run, run.attempt(1), Words(), 100, {}, Team())
"""


@pytest.mark.parametrize(
    "when",
    ["before the state", "in the middle of a file", "before the manifest", "before the rename"],
)
def test_a_killed_save_is_never_resumed(run: Run, root: Path, when: str) -> None:
    begin(run, 1)
    save(run, 1, 50)
    command = [sys.executable, "-c", KILLED_SAVE, str(run.root), when]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    assert len(names(run)) == 2
    assert chosen(run) == (1, 50)
    save(run, 1, 100)
    assert chosen(run) == (1, 100)
    checkpoint.prune(run, 2, run.attempt(2))
    assert names(run) == ["step-00000050.attempt-0001", "step-00000100.attempt-0001"]


def test_pruning_keeps_the_newest_that_may_be_resumed(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100, 150):
        save(run, 1, step)
    begin(run, 2, from_step=100)
    save(run, 2, 120)
    checkpoint.prune(run, 2, run.attempt(2))
    kept = [(found.attempt, found.step) for found in checkpoint.committed(run)]
    assert kept == [(2, 120), (1, 100)]


def test_pruning_removes_what_can_never_be_resumed(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100, 150):
        save(run, 1, step)
    begin(run, 2, from_step=100)
    save(run, 2, 120)
    checkpoint.prune(run, 2, run.attempt(2))
    assert names(run) == ["step-00000100.attempt-0001", "step-00000120.attempt-0002"]
