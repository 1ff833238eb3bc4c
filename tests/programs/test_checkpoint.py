"""Checkpoints: committed or not there; the newer attempt wins; the broken one is put aside."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from torch._C._distributed_c10d import TCPStore

from kit.config.recipe import Training
from kit.errors import CheckpointError, JobFailed
from kit.store.files import write_json
from kit.store.paths import Run
from kit.training import checkpoint, loading
from kit.training.attempt import RankInfo, join
from kit.training.saver import Saved, Saver
from tests.disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class Words:
    """The smallest state there is: a file for each rank, named as DeepSpeed names them."""

    def __init__(self, rank: int = 0, content: str = "state", size: int = 100) -> None:
        self.rank, self.content, self.size = rank, content, size

    def capture(self, step: int) -> dict[str, Any]:
        own = {f"zero_pp_rank_{self.rank}_mp_rank_00.pt": f"{self.content} {step}"}
        return {"mp_rank_00_model_states.pt": "weights", **own} if self.rank == 0 else own

    def state_bytes(self) -> int:
        return self.size


@dataclass(frozen=True)
class Together:
    """The ranks that save together: by default one, with nobody to ask."""

    rank: int = 0
    world_size: int = 1
    agree: Callable[[Sequence[int]], list[int]] = list

    def max(self, values: Sequence[int]) -> list[int]:
        return self.agree(values)

    def broadcast(self, value: Any) -> Any:
        return value

    def gather_objects(self, text: str) -> list[str]:
        return [text]


class Table:
    """Threads that agree: the maximum of what each of them brings."""

    def __init__(self, ranks: int) -> None:
        self._brought: list[Sequence[int]] = []
        self._agreed: list[int] = []
        self._come = threading.Barrier(ranks, self._settle)
        self._gone = threading.Barrier(ranks)

    def agree(self, values: Sequence[int]) -> list[int]:
        self._brought.append(values)
        self._come.wait()
        agreed = self._agreed
        self._gone.wait()
        return agreed

    def _settle(self) -> None:
        self._agreed = [max(column) for column in zip(*self._brought, strict=True)]
        self._brought = []


def begin(run: Run, attempt: int, from_step: int = 0) -> None:
    run.attempt(attempt).root.mkdir()
    write_json(run.attempt(attempt).start, {"from_step": from_step})


def training(**keys: Any) -> Training:
    required = {"steps": 9, "global_batch": 1, "micro_batch": 1, "learning_rate": 1.0}
    return Training(**required, validate_every=9, deepspeed={}, **keys)


def save(
    run: Run,
    attempt: int,
    step: int,
    state: Words | None = None,
    ranks: Together | None = None,
    rules: Training | None = None,
) -> Saved:
    """A save from its begin to its end."""
    saver = Saver(
        run, run.attempt(attempt), rules or training(keep=100), ranks or Together(), lambda: None
    )
    failed = saver.begin(state or Words(), step, {"data": "d"})
    if failed is not None:
        return failed
    while saver.writing:
        time.sleep(0.001)
    saved = saver.finish((ranks or Together()).max([saver.error])[0])
    saver.close()
    return saved


def folder_of(run: Run, attempt: int, step: int) -> Path:
    return run.checkpoint(step, attempt)


def content(found: checkpoint.Checkpoint, rank: int = 0) -> str:
    import torch

    return str(torch.load(found.state / f"zero_pp_rank_{rank}_mp_rank_00.pt"))


def names(run: Run) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def chosen(run: Run) -> tuple[int, int] | None:
    """What the next attempt begins with."""
    following = run.attempt(99)
    start: Any = loading.beginning(run, checkpoint.newest(run))
    try:
        _, part = loading.begin(run, following, start, Together())
    finally:
        shutil.rmtree(following.root, ignore_errors=True)
    return (part.checkpoint.attempt, part.checkpoint.step) if part else None


def test_what_is_saved_is_found(run: Run) -> None:
    begin(run, 1)
    saved = save(run, 1, 50, Words(content="the sash"))
    assert saved.error == 0
    assert names(run) == ["step-00000050.attempt-0001"]
    found = checkpoint.newest(run)
    assert found is not None
    assert found.record["step"] == 50
    assert found.record["ranks"] == 1
    assert found.record["data"] == "d"
    assert saved.bytes == sum(p.stat().st_size for p in found.state.iterdir())
    assert content(found) == "the sash 50"


def test_every_rank_writes_and_hashes_its_own_files(run: Run) -> None:
    begin(run, 1)
    table = Table(3)
    threads = [
        threading.Thread(target=save, args=(run, 1, 7, Words(rank), Together(rank, 3, table.agree)))
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
    assert [content(found, rank) for rank in range(3)] == ["state 7"] * 3
    assert sorted(path.name for path in found.folder.iterdir()) == ["checkpoint.json", "state"]


def test_the_latest_step_of_an_attempt_is_chosen(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100, 9):
        save(run, 1, step)
    assert chosen(run) == (1, 100)


def test_where_nothing_is_committed_nothing_is_chosen(run: Run) -> None:
    assert checkpoint.newest(run) is None
    assert checkpoint.newest(Run(run.root / "nowhere")) is None
    with pytest.raises(CheckpointError, match=r"no checkpoint; run ekiden train first"):
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
    save(run, 2, 100, Words(content="of attempt 2"))
    save(run, 1, 100, Words(content="of attempt 1"))
    found = checkpoint.newest(run)
    assert found is not None
    assert content(found) == "of attempt 2 100"


def test_an_attempt_that_began_and_left_nothing_goes_back_no_further(run: Run) -> None:
    begin(run, 1)
    save(run, 1, 50)
    save(run, 1, 100)
    begin(run, 2, from_step=100)
    begin(run, 3, from_step=100)
    assert chosen(run) == (1, 100)


def break_by(kind: str, folder: Path) -> None:
    file = folder / "state" / "mp_rank_00_model_states.pt"
    whole = file.read_bytes()
    if kind == "a flipped byte":
        file.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    elif kind == "a cut file":
        file.write_bytes(whole[:-1])
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
    save(run, 1, 100)
    break_by(kind, folder_of(run, 1, 100))
    assert chosen(run) == (1, 50)
    assert "step-00000100.attempt-0001" in capsys.readouterr().err
    assert [name.startswith("broken-step-00000100") for name in names(run)] == [True, False]
    assert chosen(run) == (1, 50)
    save(run, 1, 100)
    assert chosen(run) == (1, 100)


def test_a_rank_waits_for_a_slow_verification_as_long_as_a_start_may_take(run: Run) -> None:
    began = time.monotonic()
    with pytest.raises(JobFailed, match=r"within training\.health\.start_seconds=0\.3 s"):
        join(run, RankInfo("17.0", 1, 2, 1, 1), 0.3)
    assert time.monotonic() - began >= 0.3
    first = run.attempt(1)
    first.root.mkdir(parents=True)
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    place = {"job": "17.0", "addresses": ["127.0.0.1"], "port": store.port, "ranks": 2}
    begins = threading.Timer(0.5, write_json, (first.start, place))
    begins.start()
    attempt, _ = join(run, RankInfo("17.0", 1, 2, 1, 1), 600)
    begins.join()
    assert attempt == first


def test_where_every_checkpoint_is_broken_nothing_begins_anew_unasked(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100):
        save(run, 1, step)
        break_by("a flipped byte", folder_of(run, 1, step))
    for _ in range(2):  # at the first look, and at every later one
        with pytest.raises(CheckpointError, match="every checkpoint is broken"):
            chosen(run)
    assert len(names(run)) == 2


def test_a_file_system_that_fails_makes_no_checkpoint_broken(run: Run) -> None:
    begin(run, 1)
    save(run, 1, 50)
    folder = folder_of(run, 1, 50)
    record = (folder / "checkpoint.json").read_bytes()
    (folder / "checkpoint.json").unlink()
    (folder / "checkpoint.json").mkdir()  # reading it is an error of the system, not a missing file
    with pytest.raises(OSError, match="directory"):
        chosen(run)
    (folder / "checkpoint.json").rmdir()
    (folder / "checkpoint.json").write_bytes(record)
    assert chosen(run) == (1, 50)


def test_a_failed_save_leaves_the_checkpoints_before_it_whole(run: Run) -> None:
    begin(run, 1)
    save(run, 1, 50)
    table = Table(2)
    outcomes: dict[int, Saved] = {}

    def one(rank: int) -> None:
        # Rank 1 finds a folder where it is to write its file.
        if rank == 1:
            place = run.checkpoints / ".step-00000100.attempt-0001" / "state"
            while not place.is_dir():
                time.sleep(0.001)
            (place / "zero_pp_rank_1_mp_rank_00.pt").mkdir()
        outcomes[rank] = save(run, 1, 100, Words(rank), Together(rank, 2, table.agree))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {saved.error for saved in outcomes.values()} == {errno.EISDIR}
    assert names(run) == ["step-00000050.attempt-0001"]
    assert chosen(run) == (1, 50)


def test_a_full_disk_is_found_before_a_save(run: Run) -> None:
    begin(run, 1)
    saved = save(run, 1, 50, Words(size=shutil.disk_usage(run.root).total * 2))
    assert saved.reason == "No space left on device"
    assert names(run) == []
    save(run, 1, 60)
    assert chosen(run) == (1, 60)


class Big(Words):
    """Two megabytes, and no idea of it."""

    def capture(self, step: int) -> dict[str, Any]:
        import torch

        return {"mp_rank_00_model_states.pt": {"weights": torch.zeros(500_000)}}


def test_a_disk_that_is_full_in_the_middle_of_a_save_fails_that_save_only(run: Run) -> None:
    begin(run, 1)
    with small_disk(run.checkpoints, "1m"):
        save(run, 1, 50)
        saved = save(run, 1, 100, Big())
        assert saved.reason == "No space left on device"
        assert names(run) == ["step-00000050.attempt-0001"]
        assert chosen(run) == (1, 50)
        assert save(run, 1, 110).error == 0
        assert chosen(run) == (1, 110)


def test_a_disk_that_is_read_only_for_a_while_fails_the_saves_of_that_while(run: Run) -> None:
    begin(run, 1)
    with small_disk(run.checkpoints, "1m"):
        save(run, 1, 50)
        for mode, reason in (("ro", "Read-only file system"), ("rw", "Success")):
            remount = ["mount", "-o", f"remount,{mode}", str(run.checkpoints)]
            subprocess.run(remount, check=True)
            assert save(run, 1, 60).reason == reason
            assert chosen(run) == (1, 50 if mode == "ro" else 60)


def prune(run: Run, attempt: int, **keys: Any) -> None:
    checkpoint.prune(run, training(**keys), run.attempt(attempt))


def test_pruning_leaves_alone_what_a_newer_attempt_is_saving(run: Run) -> None:
    begin(run, 1)
    begin(run, 2)
    save(run, 1, 50)
    staging = run.checkpoints / ".step-00000060.attempt-0002"
    staging.mkdir()
    prune(run, 1)  # attempt 1 lives on, on a node that was taken for lost
    assert staging.is_dir()
    prune(run, 2)
    assert not staging.exists()


KILLED_SAVE = """
import os, signal, sys, time
from pathlib import Path
from kit.training.saver import Saver
from kit.store.paths import Run
from tests.programs.test_checkpoint import Together, Words, training

run, when = Run(Path(sys.argv[1])), sys.argv[2]
moments = {
    "when a file is opened": ("open", ".step-", "model_states.pt"),
    "at the rename": ("os.rename", "/.step-", ".attempt-0001"),
}
event, part, end = moments[when]
def die(name, arguments):
    if name == event and part in str(arguments[0]) and str(arguments[0]).endswith(end):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
saver = Saver(run, run.attempt(1), training(), Together(), lambda: None)
saver.begin(Words(), 100, {})
while saver.writing:
    time.sleep(0.001)
saver.finish(saver.error)
"""


@pytest.mark.parametrize("when", ["when a file is opened", "at the rename"])  # all: tests/chaos
def test_a_killed_save_is_never_resumed(run: Run, root: Path, when: str) -> None:
    begin(run, 1)
    save(run, 1, 50)
    command = [sys.executable, "-c", KILLED_SAVE, str(run.root), when]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    assert chosen(run) == (1, 50)
    save(run, 1, 100)
    assert chosen(run) == (1, 100)
    prune(run, 2)
    assert names(run) == ["step-00000050.attempt-0001", "step-00000100.attempt-0001"]


def test_pruning_keeps_the_newest_that_may_be_resumed(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100, 150):
        save(run, 1, step)
    begin(run, 2, from_step=100)
    save(run, 2, 120)
    prune(run, 2)
    kept = [(found.attempt, found.step) for found in checkpoint.committed(run)]
    assert kept == [(2, 120), (1, 100)]


def test_pruning_removes_what_can_never_be_resumed(run: Run) -> None:
    begin(run, 1)
    for step in (50, 100, 150):
        save(run, 1, step)
    begin(run, 2, from_step=100)
    save(run, 2, 120)
    prune(run, 2)
    assert names(run) == ["step-00000100.attempt-0001", "step-00000120.attempt-0002"]


def test_pruning_keeps_for_good_what_the_recipe_says(run: Run) -> None:
    begin(run, 1)
    for step in (0, 10, 20, 30, 40, 50):
        save(run, 1, step)
    prune(run, 1, keep_every=20)
    assert [found.step for found in checkpoint.committed(run)] == [50, 40, 20]


def test_the_checkpoint_to_go_back_to_outlives_those_that_interruptions_made(run: Run) -> None:
    begin(run, 1)
    for step in (10, 20, 21, 22, 23):
        save(run, 1, step)
    prune(run, 1, checkpoint_every=10)
    assert [found.step for found in checkpoint.committed(run)] == [23, 22, 20]
    rules = training(checkpoint_every=10)
    found = checkpoint.on_schedule(run, rules, 23)
    assert [one.step for one in found] == [20]
    assert loading.first_whole(found, Together()) is not None
    break_by("a flipped byte", found[0].folder)
    assert loading.first_whole(found, Together()) is None


def test_what_was_committed_on_a_way_that_is_gone_back_is_removed(run: Run) -> None:
    begin(run, 1)
    for step in (10, 20, 25):
        save(run, 1, step)
    begin(run, 2, from_step=25)
    save(run, 2, 28)
    checkpoint.abandon(run, run.attempt(2), 20)
    assert [found.step for found in checkpoint.committed(run)] == [20, 10]
