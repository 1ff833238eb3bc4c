"""Saves that rest beside training: nothing but the time of their commit depends on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.relay import resolve
from kit.run import directory
from kit.store.files import file_hash
from kit.tracking import ledger
from kit.training import checkpoint, pace, state_files
from kit.training.attempt import RankInfo, claim
from kit.training.collectives import Collectives
from kit.training.context import Context
from kit.training.device import Device
from kit.training.health import Watchdog
from kit.training.interruption import SIGNALS, Interruption
from kit.training.loop import Loop
from kit.training.saver import Saver
from tests.disk import small_disk
from tests.programs.test_checkpoint import Together, Words, begin, chosen, save, training
from tests.relay import DEMO, copy_of, curve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kit.store.paths import Run
    from kit.store.records import Result

EVERY, FOR_GOOD, STEPS = 4, 6, 14
RECIPE = (
    "tracking.mlflow=null", "tracking.tensorboard=false", "model.n_layer=1", "model.n_embd=8",
    "model.n_head=2", "model.n_positions=16", "training.precision=fp32", f"training.steps={STEPS}",
    "training.global_batch=4", "training.micro_batch=2", "training.validation_blocks=1",
    "training.warmup_steps=1", "training.validate_every=7", f"training.checkpoint_every={EVERY}",
    f"training.keep_every={FOR_GOOD}", "training.keep=20", "cluster.training.ranks_per_node=1",
)  # fmt: skip


class Large(Words):
    """Four chunks."""

    def capture(self, step: int) -> dict[str, Any]:
        return {"mp_rank_00_model_states.pt": {"weights": torch.full((1000,), step)}}


@pytest.fixture
def resting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every save rests at its first chunk, and for a minute if nobody hurries it."""
    monkeypatch.setattr(pace, "SHARE", 1e-9)
    monkeypatch.setattr(state_files, "_CHUNK", 2048)


@pytest.mark.usefixtures("resting")
@pytest.mark.parametrize("how", ["asked to hurry", "signalled"])
def test_a_save_rests_until_it_is_asked_to_hurry(run: Run, how: str) -> None:
    begin(run, 1)
    signalled = threading.Event()
    saver = Saver(
        *(run, run.attempt(1), training(keep=9), Together(), lambda: None),
        urgent=signalled.is_set,
    )
    assert saver.begin(Large(), 50, {"data": "d"}) is None
    until(lambda: saver.rested)
    assert saver.writing
    if how == "signalled":
        signalled.set()
    else:
        saver.hurry()
    until(lambda: not saver.writing)
    saved = saver.finish(saver.error)
    saver.close()
    assert 0 < saved.rested <= saved.seconds < pace.LONGEST
    rested = checkpoint.by_name(run, run.checkpoint(50, 1).name).record["files"]
    assert rested["mp_rank_00_model_states.pt"] == state_files.write(
        run.root / "at full speed", Large().capture(50)["mp_rank_00_model_states.pt"]
    )


KILLED_SAVE = """
import os, signal, sys, threading, time
from pathlib import Path
from kit.store.paths import Run
from kit.training import pace, state_files
from kit.training.saver import Saver
from tests.programs.test_checkpoint import Together, training
from tests.programs.test_paced_saves import Large

pace.SHARE, state_files._CHUNK = 1e-9, 2048
run = Run(Path(sys.argv[1]))
saver = Saver(run, run.attempt(1), training(), Together(), lambda: None)
saver.begin(Large(), 100, {})
while not saver.rested:
    time.sleep(0.001)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_save_that_is_killed_while_it_rests_is_never_resumed(run: Run, root: Path) -> None:
    begin(run, 1)
    save(run, 1, 50)
    command = [sys.executable, "-c", KILLED_SAVE, str(run.root)]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    assert chosen(run) == (1, 50)
    save(run, 1, 100)
    assert chosen(run) == (1, 100)


def test_a_disk_that_fills_while_a_save_rests_fails_that_save_only(
    run: Run, monkeypatch: pytest.MonkeyPatch, resting: None
) -> None:
    monkeypatch.setattr(pace, "LONGEST", 0.2)
    begin(run, 1)
    with small_disk(run.checkpoints, "1m"):
        save(run, 1, 50)
        saved = save(run, 1, 100, Larger())
        assert saved.reason == "No space left on device"
        assert saved.rested > 0
        assert chosen(run) == (1, 50)
        assert save(run, 1, 110).error == 0
        assert chosen(run) == (1, 110)


@pytest.fixture(scope="module")
def workspace(alone: None, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with tokens, for runs of one rank."""
    return copy_of(tokens, tmp_path_factory.mktemp("paced"))


@pytest.fixture(scope="module")
def reference(workspace: Path) -> Run:
    """A run whose saves never rest, and are committed within a step."""
    run, result = train(workspace, "reference", lambda loop: loop._checkpointer.wait())
    assert result["outcome"] == "done"
    assert max(row["rested"] for row in saves_of(run)) == 0
    return run


def test_a_run_whose_saves_rest_has_the_checkpoints_and_rows_of_one_whose_do_not(
    workspace: Path, reference: Run, resting: None
) -> None:
    def at(loop: Loop) -> None:
        if loop._progress.step == EVERY + 1 and loop._checkpointer.saving:
            until(lambda: loop._checkpointer._saver.rested)

    run, result = train(workspace, "resting", at)
    assert result["outcome"] == "done"
    assert saves_of(run)[0]["rested"] > 0
    assert max(row["seconds"] for row in saves_of(run)) < pace.LONGEST
    on_schedule = [step for step in range(1, STEPS) if not (step % EVERY and step % FOR_GOOD)]
    assert [row["step"] for row in saves_of(run)] == [*on_schedule, STEPS]
    assert files_of(run) == files_of(reference)
    assert curve(run) == curve(reference)


def test_a_checkpoint_to_keep_is_made_at_its_step_however_slow_the_disk(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = state_files.write

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.3)  # many steps
        return write(*arguments, **options)

    monkeypatch.setattr("kit.training.saver.write", slowly)
    run, result = train(workspace, "slow", lambda _: None)
    assert result["outcome"] == "done"
    assert {FOR_GOOD, 2 * FOR_GOOD} < {row["step"] for row in saves_of(run)}


def test_a_signal_while_a_save_rests_ends_both_that_and_the_save_of_the_last_step(
    workspace: Path, reference: Run, resting: None
) -> None:
    def at(loop: Loop) -> None:
        if loop._progress.step == EVERY + 1 and loop._checkpointer.saving:
            until(lambda: loop._checkpointer._saver.rested)
            os.kill(os.getpid(), signal.SIGTERM)

    run, result = train(workspace, "signalled", at)
    assert result["outcome"] == "interrupted"
    assert result["step"] == result["saved"] == EVERY + 1
    assert [row["step"] for row in saves_of(run)] == [EVERY, EVERY + 1]
    run, result = train(workspace, "signalled", lambda _: None)
    assert result["outcome"] == "done"
    assert len(run.claimed_attempts()) == 2
    assert curve(run) == curve(reference)
    ours, others = files_of(run), files_of(reference)
    assert {step: ours[step] for step in others} == others


class Larger(Words):
    """More than its disk has."""

    def capture(self, step: int) -> dict[str, Any]:
        return {"mp_rank_00_model_states.pt": {"weights": torch.full((500_000,), step)}}


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 50
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def train(workspace: Path, name: str, between: Callable[[Loop], None]) -> tuple[Run, Result]:
    """One attempt of one rank on the CPU; `between` is called after each step."""
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGCONT)}
    project = resolve.load(DEMO, [f"workspace={workspace}", f"name={name}", *RECIPE])
    run = directory.prepare(project)
    recipe, cluster = read_resolved(run.recipe, Recipe), read_resolved(run.cluster, Cluster)
    attempt, _ = claim(run, RankInfo(f"{name}.0", 0, 1, 0, 1), 0)
    watchdog = Watchdog(attempt.hang, f"{name}.0", 0, 3600, 3600)
    collectives = Collectives(0, 1, Interruption(), dist.new_group(backend="gloo"))
    device = Device("cpu", 0)
    try:
        loop = Loop(Context(run, recipe, cluster, attempt, device, collectives, watchdog))
        step = loop._step

        def stepped() -> None:
            step()
            between(loop)

        loop._step = stepped  # type: ignore[method-assign]
        return run, loop.run()
    finally:
        watchdog.disarm()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def saves_of(run: Run) -> list[Any]:
    rows = [row for one in ledger.attempts(run) for row in ledger.rows(one)]
    return [row for row in rows if row["kind"] == "checkpoint"]


def files_of(run: Run) -> dict[int, dict[str, str]]:
    """Hashes of the files of each checkpoint, by step."""
    return {
        found.step: {name: file_hash(found.state / name) for name in found.record["files"]}
        for found in checkpoint.committed(run)
    }
