"""What a long run meets: a user's files, bad steps, a full disk, another number of ranks."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from kit.cluster import lock
from kit.store.files import read_json, write_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from kit.training import checkpoint
from tests.architectures import SHAPES
from tests.disk import fill, small_disk
from tests.relay import DEMO, TINY, curve, final_files, wait_for_step, wait_until
from tests.warm import command

from .conftest import ALONE

pytestmark = pytest.mark.end_to_end

SLOW_DISK = Path(__file__).parent / "slow_disk"
SMALL = (
    *TINY,
    "training.micro_batch=8",  # one a step, where there are two ranks
    "training.checkpoint_every=10",
    "training.validate_every=12",
)


def train(
    workspace: Path, name: str, *overrides: str, verb: str = "run", code: int = 0
) -> tuple[Run, str]:
    """`jobs.train VERB` in the shared workspace; returns the run and what was said."""
    where = (f"workspace={workspace}", f"name={name}")
    said = command("train", verb, str(DEMO), *where, *SMALL, *overrides, code=code)
    return Workspace(workspace).run(name), said


def end_of(run: Run, attempt: int = -1) -> dict[str, object]:
    found: dict[str, object] = read_json(ledger.attempts(run)[attempt].end)
    return found


def rows(run: Run, kind: str) -> list[ledger.Row]:
    """The rows of a kind, of all attempts."""
    return [r for a in ledger.attempts(run) for r in ledger.rows(a) if r["kind"] == kind]


def native(precision: str) -> bool:
    """Whether this CPU computes in a precision by itself."""
    return bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported")())


def stop(run: Run) -> None:
    """End a submitted run by its STOP file."""
    run.stop.touch()
    wait_until(lambda: not lock.is_held(run), "the run's end")


def test_a_users_files_save_and_stop_and_the_next_submission_goes_on(workspace: Path) -> None:
    rules = ("training.steps=5000", "training.checkpoint_every=5000", *ALONE)
    run, _ = train(workspace, "files", *rules, verb="submit")
    wait_for_step(run, 3)
    run.save.touch()
    wait_until(lambda: bool(run.committed_checkpoints()), "a checkpoint")
    assert not run.save.exists()
    stop(run)
    end = end_of(run)
    assert (end["outcome"], end["reason"]) == ("stopped", "STOP file")
    assert end["step"] == end["saved"]
    train(workspace, "files", *rules, verb="submit")
    assert not run.stop.exists()
    wait_until(lambda: len(ledger.attempts(run)) == 2, "second attempt")
    assert read_json(ledger.attempts(run)[1].start)["from_step"] == end["saved"]
    stop(run)
    log = (run.submissions / "train" / "train-0_0_log.out").read_text()
    assert "attempt 1 rank 0: SAVE file found: saving a checkpoint" in log
    assert log.count("attempt 1 rank 0: STOP file found: saving, then stopping") == 1
    assert f"attempt 2 rank 0: resumes from step {end['saved']} of attempt 1" in log


def descendants(process: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    found = []
    for thread in (Path("/proc") / str(process) / "task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def test_a_run_that_was_suspended_for_longer_than_a_hang_goes_on(workspace: Path) -> None:
    hang = 4.0
    rules = ("training.steps=50000", "training.checkpoint_every=50000")
    given = (*rules, f"training.health.hang_seconds={hang}", "cluster.training.minutes=60")
    run, _ = train(workspace, "suspended", *given, verb="submit")
    wait_for_step(run, 20)
    processes = descendants(int(run.supervisor.read_text()))
    assert len(processes) > 2
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    before = len(rows(run, "step"))
    time.sleep(2 * hang)
    assert len(rows(run, "step")) == before
    for process in processes:
        os.kill(process, signal.SIGCONT)
    wait_for_step(run, before + 20)
    stop(run)
    assert len(ledger.attempts(run)) == 1
    end = end_of(run)
    assert (end["outcome"], end["reason"]) == ("stopped", "STOP file")
    # The pause is in no step's time: it would count as trained, and as what a step takes.
    assert max(row["seconds"] for row in rows(run, "step")) < 2 * hang


@pytest.mark.long
def test_an_older_attempt_leaves_when_a_newer_one_has_begun(workspace: Path) -> None:
    rules = ("training.steps=5000", "training.checkpoint_every=5000", *ALONE)
    run, _ = train(workspace, "superseded", *rules, verb="submit")
    wait_for_step(run, 3)
    newer = run.attempt(2)
    newer.root.mkdir()
    write_json(newer.start, {"job": "elsewhere.1", "from_step": 0})
    wait_until(lambda: not lock.is_held(run), "the run's end")
    assert read_json(run.attempt(1).end)["outcome"] == "superseded"
    assert checkpoint.committed(run) == []


SPIKES = (
    "training.steps=40",
    "training.global_batch=4",  # so few samples that some steps have a gradient beyond the bound
    "training.micro_batch=2",
    "training.health.window=10",
    "training.health.gradient_spike=1.1",
    "training.health.limit=30",
)


# One of them in bf16, as on a GPU: a CPU without it takes its time, but for so small a model.
@pytest.mark.parametrize(
    ("rule", "precision"),
    [pytest.param("skip", "bf16", marks=pytest.mark.long), ("rollback", "fp32")],
)
def test_bad_steps_are_met_alike_whether_the_run_is_interrupted_or_not(
    workspace: Path, rule: str, precision: str
) -> None:
    rules = (*SPIKES, f"training.health.on_bad_step={rule}", f"training.precision={precision}")
    # A save on it lasts for more steps than there are to the next one: where a run goes back to must
    # not depend on that either.
    code = Workspace(workspace).run(f"{rule}-whole").code
    slow_disk = f"cluster.environment.PYTHONPATH={code}:{SLOW_DISK}"
    whole, _ = train(workspace, f"{rule}-whole", *rules, slow_disk)
    cut, _ = train(workspace, f"{rule}-cut", *rules, "cluster.preempt_at_step=24")
    assert len(ledger.attempts(cut)) == 2
    assert final_files(cut) == final_files(whole)
    assert curve(cut) == curve(whole)
    steps = [row for row in ledger.canonical(whole) if row["kind"] == "step"]
    assert [row["step"] for row in steps] == list(range(1, 41))
    met = rows(whole, "health" if rule == "skip" else "rollback")
    assert met
    record = checkpoint.committed(whole)[0].record
    if rule == "skip":
        assert [row["step"] for row in steps if row.get("skipped")] == [row["step"] for row in met]
        assert record["sample"] == 40 * 4
    else:
        # Back to one step several times, each time past more samples: the last one tells.
        last = {row["to_step"]: row["passed_over"] for row in met}
        assert record["passed_over"] == list(last.values())
        assert record["sample"] == 40 * 4 + sum(b - a for a, b in record["passed_over"])


def test_a_run_that_diverges_is_stopped_and_says_so(workspace: Path) -> None:
    rules = (
        "training.steps=40",
        "training.learning_rate=1e30",
        "training.validate_every=1",
        *ALONE,
    )
    run, said = train(workspace, "diverged", *rules, "training.health.limit=3", code=2)
    assert "bad step" in said
    assert "loss nan; 4 bad steps in a row, training.health.limit=3" in said
    end = end_of(run)
    assert end["outcome"] == "failed"
    assert end["saved"] == end["step"]
    assert len(ledger.attempts(run)) == 1
    assert rows(run, "health")[-1]["action"] == "stop"
    assert rows(run, "validation")[-1]["validation_loss"] is None


@pytest.mark.long  # tests/programs/test_engine.py has it step by step, for every ZeRO stage
def test_a_run_in_fp16_finds_its_loss_scale_and_is_the_same_when_it_is_interrupted(
    workspace: Path,
) -> None:
    # The smallest micro-batch there is: a gradient is the mean of two tokens' and does not fit at 2^16.
    batches = ("model.n_positions=2", "training.global_batch=2", "training.micro_batch=1")
    rules = ("training.precision=fp16", "training.steps=16", *batches)
    whole, said = train(workspace, "fp16", *rules)
    assert ("warning: training.precision=fp16: this CPU has no native" in said) != native("fp16")
    cut, _ = train(workspace, "fp16-cut", *rules, "cluster.preempt_at_step=3")
    assert len(ledger.attempts(cut)) == 2
    assert final_files(cut) == final_files(whole)
    assert curve(cut) == curve(whole)
    steps = [row for row in curve(whole) if row["kind"] == "step"]
    overflows = [row for row in steps if row.get("overflow")]
    assert overflows
    assert all(row["gradient_norm"] is None for row in overflows)
    assert steps[0]["loss_scale"] == 2**16
    assert steps[-1]["loss_scale"] < 2**16
    assert not rows(whole, "health")


WITHOUT_ZERO = "training.deepspeed={folder}/zero0.json"
MUON = ("training.optimizer=muon", "training.global_batch=12", "training.micro_batch=2")


@pytest.mark.parametrize(
    ("ranks", "form"),
    [
        pytest.param(1, (), id="adamw"),
        pytest.param(3, (*MUON, "training.deepspeed=zero1"), id="muon", marks=pytest.mark.long),
        pytest.param(3, (*MUON, *SHAPES["qwen3"]), id="muon-qwen3", marks=pytest.mark.long),
        pytest.param(1, (WITHOUT_ZERO,), id="without-zero", marks=pytest.mark.long),
    ],
)
def test_a_run_goes_on_with_another_number_of_ranks(
    workspace: Path, request: pytest.FixtureRequest, ranks: int, form: tuple[str, ...]
) -> None:
    (workspace / "zero0.json").write_text('{"zero_optimization": {"stage": 0}}', encoding="utf-8")
    form = tuple(one.format(folder=workspace) for one in form)
    rules = ("training.steps=24", "training.checkpoint_every=6", *form)
    name = request.node.callspec.id
    two, _ = train(workspace, f"{name}-two-ranks", *rules)
    moved, _ = train(workspace, f"{name}-moved", *rules, verb="submit")
    wait_for_step(moved, 6)
    stop(moved)
    train(workspace, f"{name}-moved", *rules, f"cluster.training.ranks_per_node={ranks}")
    log = (moved.submissions / "train" / "train-0_0_log.out").read_text()
    assert f"saved by 2 ranks, resumed on {ranks}" in log
    one, other = curve(two), curve(moved)
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for left, right in zip(one, other, strict=True):
        assert left.get("sample") == right.get("sample")
        key = "loss" if left["kind"] == "step" else "validation_loss"
        # Sums in another order differ by some of the last of 24 bits, and the optimizer makes more of it.
        assert left[key] == pytest.approx(right[key], rel=1e-4)


def test_saves_come_by_time_and_the_last_one_only_if_there_is_time(workspace: Path) -> None:
    rules = ("training.steps=5000", "training.checkpoint_every=null", *ALONE)
    run, _ = train(workspace, "by-time", *rules, "cluster.training.accelerator=a100", verb="submit")
    # The first step's save gives the figures from which the interval follows.
    wait_until(lambda: bool(rows(run, "checkpoint")), "a checkpoint")
    stop(run)
    assert rows(run, "checkpoint")[0]["step"] == 1
    (begun,) = rows(run, "attempt")
    for row in rows(run, "step"):
        work = 6 * begun["parameters"] + 12 * 1 * 32 * 64  # a layer of width 32, 64 positions
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * work / 312e12)
        assert row["memory_bytes"] > 0

    # A save that once took an hour is not begun within a grace of a minute.
    saved = checkpoint.committed(run)[0]
    write_json(
        saved.folder / checkpoint.RECORD,
        checkpoint.sealed({**saved.record, "slowest_save": 3600.0}),
    )
    grace = ("cluster.training.grace_seconds=60", "cluster.training.minutes=100000")
    train(workspace, "by-time", *rules, *grace, verb="submit")
    wait_for_step(run, saved.step + 3)
    os.kill(int(run.supervisor.read_text()), signal.SIGTERM)
    wait_until(lambda: not lock.is_held(run), "the run's end")
    end = end_of(run)
    assert (end["outcome"], end["reason"]) == ("interrupted", "cancelled by its user")
    assert end["saved"] == saved.step
    assert checkpoint.committed(run)[0].step == saved.step


def test_a_release_is_the_same_whatever_lies_in_the_checkpoint(workspace: Path) -> None:
    zero3 = workspace / "zero3.json"
    zero3.write_text('{"zero_optimization": {"stage": 3, "reduce_bucket_size": 1000000}}')
    rules = ("training.steps=10", f"training.deepspeed={zero3}", "model.pad_vocab_to=128")
    run, _ = train(workspace, "zero3", *rules, "training.validation_blocks=null")
    where = (str(DEMO), f"workspace={workspace}", "name=zero3", *SMALL, *rules)
    for job in ("evaluate", "export"):
        said = command(job, "run", *where, "training.validation_blocks=null")
        for line in said.splitlines():  # none of DeepSpeed's, which gathers the weights
            assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d [\d:]{{8}} {job}: .+", line), line
    model = AutoModelForCausalLM.from_pretrained(run.export)
    assert model.get_input_embeddings().weight.shape == (2000, 32)  # of 2,048 rows in training
    scores = read_json(run.evaluation / "scores.json")
    # The same held-out part, but for the tokens after its last whole block; stored as bf16.
    last = rows(run, "validation")[-1]
    assert scores["loss"] == pytest.approx(last["validation_loss"], rel=2**-8)


def test_a_full_disk_stops_no_run_that_finds_room_later(workspace: Path) -> None:
    checkpoints = Workspace(workspace).run("small-disk").checkpoints
    checkpoints.mkdir(parents=True)
    with small_disk(checkpoints, "8m"):  # room for four
        fill_and_free(workspace)


def fill_and_free(workspace: Path) -> None:
    rules = ("training.steps=5000", "training.save_pause=0.2", *ALONE)
    run, _ = train(workspace, "small-disk", *rules, verb="submit")
    wait_until(lambda: bool(run.committed_checkpoints()), "a checkpoint")
    filler = fill(run.checkpoints)
    wait_until(lambda: len(rows(run, "save_failed")) > 1, "failed save")
    assert rows(run, "save_failed")[-1]["reason"] == "No space left on device"
    assert all(found.problem() is None for found in checkpoint.committed(run))
    filler.unlink()
    full = rows(run, "save_failed")[-1]["step"]
    wait_until(lambda: checkpoint.committed(run)[0].step > full, "a checkpoint that finds room")
    stop(run)
    end = end_of(run)
    assert (end["outcome"], end["step"]) == ("stopped", checkpoint.committed(run)[0].step)
    assert len(ledger.attempts(run)) == 1
