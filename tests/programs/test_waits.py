"""What the loop waits for, over real steps on a stand-in for a GPU."""

from __future__ import annotations

import collections
import itertools
import json
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch.distributed as dist

from kit.config.cluster import Cluster
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.relay import resolve
from kit.run import directory
from kit.store.files import read_json
from kit.training import flight_recorder, optimizer
from kit.training.attempt import RankInfo, claim
from kit.training.collectives import Collectives
from kit.training.context import Context
from kit.training.engine import Engine
from kit.training.health import Watchdog
from kit.training.interruption import SIGNALS, Interruption, Reason
from kit.training.loop import Loop
from tests.relay import DEMO, copy_of
from tests.stand_in_device import Event, StandIn

from .test_gradients import CASES, LONG, every_case, of_muon
from .waits import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kit.store.paths import Run
    from kit.store.records import Result
    from kit.training.adamw import GuardedAdamW

# Three steps of three micro-batches; the second is looked at.
RECIPE = (
    "tracking.mlflow=null", "tracking.tensorboard=false", "model.n_layer=1", "model.n_embd=8",
    "model.n_head=2", "model.n_positions=16", "training.precision=bf16", "training.steps=3",
    "training.global_batch=6", "training.micro_batch=2", "training.validation_blocks=1",
    "training.warmup_steps=1", "training.validate_every=3", "training.checkpoint_every=3",
    "cluster.training.ranks_per_node=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def device(alone: None, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """A stand-in that has trained, with marks of what the loop calls in its log."""
    device = StandIn()
    result = train(copy_of(tokens, tmp_path_factory.mktemp("waits")), device)
    assert result["outcome"] == "done"
    return device


def train(workspace: Path, device: StandIn, *overrides: str, stop_in: int | None = None) -> Result:
    """One attempt on a device; a user asks for its end during micro-batch `stop_in`, counted from 1."""
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGCONT)}
    run = directory.prepare(resolve.load(DEMO, [f"workspace={workspace}", *RECIPE, *overrides]))
    recipe, cluster = read_resolved(run.recipe, Recipe), read_resolved(run.cluster, Cluster)
    attempt, _ = claim(run, RankInfo("test.0", 0, 1, 0, 1), 0)
    watchdog = Watchdog(attempt.hang, "test.0", 0, 3600, 3600)
    collectives = Collectives(0, 1, Interruption(), dist.new_group(backend="gloo"))

    def reached(mark: str) -> None:
        if mark == f"micro_batch {stop_in}":
            collectives.interruption.received = Reason.STOP_FILE

    try:
        with pytest.MonkeyPatch.context() as patch, device.in_place(patch):
            _mark(patch, device, reached)
            loop = Loop(Context(run, recipe, cluster, attempt, device, collectives, watchdog))
            with device.watching():
                return loop.run()
    finally:
        watchdog.disarm()
        for number, handler in handlers.items():
            signal.signal(number, handler)


_of_recipe = optimizer.of


def _of_a_gpu(device: StandIn, model: Any, training: Any, **_: object) -> GuardedAdamW:
    """The optimizer as on a GPU, and with a mark at each group of weights that it updates."""
    made = _of_recipe(model, training, fused=True)
    update = made.step

    def step() -> None:
        update()
        device.add("weights")

    made.step = step  # type: ignore[assignment]
    return made


def _mark(patch: pytest.MonkeyPatch, device: StandIn, reached: Callable[[str], None]) -> None:
    """Let calls leave marks in the log, with their numbers from 1; `reached` is told of each begin."""

    def marked(name: str, function: Any) -> Any:
        numbers = itertools.count(1)

        def call(*args: Any, **kwargs: Any) -> Any:
            mark = f"{name} {next(numbers)}"
            device.add(mark)
            reached(mark)
            result = function(*args, **kwargs)
            device.add(f"{mark} ended")
            return result

        return call

    answer = marked("answer", lambda agreed: agreed())
    ask = Collectives.begin_to_agree
    patch.setattr(
        Collectives, "begin_to_agree", marked("ask", lambda own: partial(answer, ask(own)))
    )
    patch.setattr(optimizer, "of", partial(_of_a_gpu, device))
    for name in ("micro_batch", "update", "capture", "validate"):
        patch.setattr(Engine, name, marked(name, getattr(Engine, name)))


def waits(events: list[Event], package: str) -> list[str]:
    """What a package waits for, in order; `Collectives` has its own tensors, on the CPU."""
    return [
        f"{event.place}: {event.detail}"
        for event in events
        if event.what == "wait"
        and event.place.startswith(f"{package}/")
        and not event.place.endswith("/collectives.py")
    ]


def waiters(events: list[Event]) -> dict[str, int]:
    """Who waits, a module and a function, and how often; without `Collectives`."""
    return dict(
        collections.Counter(
            f"{event.place.split('/')[-1].removesuffix('.py')}.{event.function}"
            for event in events
            if event.what == "wait" and not event.place.endswith("/collectives.py")
        )
    )


def overrides(name: str, folder: Path) -> tuple[str, ...]:
    """A case of `test_gradients`, with the buckets of a whole model."""
    stage, precision, gradients, more, rest = {**CASES, **LONG}[name]
    overlapping = {"overlap_comm": True, "contiguous_gradients": True} if stage else {}
    file = {"zero_optimization": {"stage": stage, **overlapping, **more}, **rest}
    if more:
        file["zero_force_ds_cpu_optimizer"] = False
    (folder / "case.json").write_text(json.dumps(file), encoding="utf-8")
    return (
        f"training.precision={precision}", f"training.gradient_dtype={gradients}",
        f"training.deepspeed={folder / 'case.json'}", *of_muon(name),
    )  # fmt: skip


def test_between_micro_batches_nothing_waits_but_the_end_of_a_reduction_in_zero_2(
    device: StandIn,
) -> None:
    during = device.between("micro_batch 4", "micro_batch 6 ended")
    assert waits(during, "kit") == waits(during, "transformers") == []
    # With overlap_comm, once a micro-batch: independent_gradient_partition_epilogue.
    assert (
        waits(during, "deepspeed") == ["deepspeed/runtime/zero/stage_1_and_2.py: synchronize"] * 3
    )


def test_blocks_are_read_ahead_by_a_thread_and_sent_from_page_locked_memory(
    device: StandIn,
) -> None:
    during = device.between("micro_batch 4", "micro_batch 7")
    assert [event.what for event in during if event.what == "sent"] == ["sent"] * 3
    threads = {event.thread.split("_")[0] for event in during if event.what == "staged"}
    assert threads == {"read ahead"}
    read = [e for e in device.log if e.what != "staged" or e.thread.startswith("read ahead")]
    whats = [event.what for event in read]
    for number in range(1, 9):  # the next one, while this one is computed or agreed upon
        staged_before = whats[: whats.index(f"micro_batch {number + 1}")].count("staged")
        assert staged_before in (number + 1, number + 2)


def test_a_step_waits_once_for_loss_and_norm_behind_the_update_of_the_weights(
    device: StandIn,
) -> None:
    step = device.between("micro_batch 4", "micro_batch 7")
    assert waits(step, "kit") == ["kit/training/verdict.py: event"]
    whats = [event.what for event in step]
    ours = step.index(next(event for event in step if waits([event], "kit")))
    # The copy is queued before the update, so that the wait is not for the update itself.
    assert whats.index("fetched") < whats.index("weights")
    assert "weights" not in whats[ours:]
    first = whats.index("weights")
    assert waits(step[first:], "deepspeed") == []


def test_no_block_of_a_validation_is_waited_for(device: StandIn) -> None:
    assert waits(device.between("validate 1", "validate 1 ended"), "kit") == []


@every_case
def test_every_wait_of_a_step_is_in_the_table(
    alone: None, tokens: Path, tmp_path: Path, name: str
) -> None:
    device = StandIn()
    result = train(copy_of(tokens, tmp_path / "workspace"), device, *overrides(name, tmp_path))
    assert result["outcome"] == "done"
    step = device.between("micro_batch 4", "micro_batch 7")
    whats = [event.what for event in step]
    bounds = [0, *(whats.index(mark) for mark in ("micro_batch 5", "micro_batch 6", "update 2"))]
    bounds += [whats.index("weights"), len(step)]
    parts = [step[begin:end] for begin, end in itertools.pairwise(bounds)]
    assert tuple(map(waiters, parts)) == TABLE[name]


def test_the_ranks_agree_while_they_compute(device: StandIn) -> None:
    whats = [event.what for event in device.log]
    for number in range(1, 10):
        begin, end = (whats.index(f"micro_batch {number}{words}") for words in ("", " ended"))
        asked = [what for what in whats[:begin] if what.startswith("ask ")][-1]
        answer = next(what for what in whats[end:] if what.startswith("answer "))
        assert asked.split()[1] == answer.split()[1]


@pytest.mark.parametrize(("stop_in", "step"), [(4, 1), (5, 2), (6, 2)])
def test_a_step_is_finished_if_its_last_micro_batch_is_done_and_else_dropped(
    alone: None, tokens: Path, tmp_path: Path, stop_in: int, step: int
) -> None:
    device = StandIn()
    result = train(copy_of(tokens, tmp_path), device, stop_in=stop_in)
    assert (result["outcome"], result["step"], result["saved"]) == ("stopped", step, step)
    # Ranks agree upon it during the micro-batch that follows.
    assert f"micro_batch {stop_in + 1}" in [event.what for event in device.log]
    assert f"micro_batch {stop_in + 2}" not in [event.what for event in device.log]


def test_a_save_waits_once_for_all_its_copies(device: StandIn) -> None:
    during = device.between("capture 1", "capture 1 ended")
    assert waits(during, "kit") == ["kit/training/deepspeed_files.py: synchronize"]


def test_the_collectives_of_a_rank_can_be_written_at_any_time(alone: None, run: Run) -> None:
    collectives = Collectives(0, 1, Interruption(), dist.new_group(backend="gloo"))
    collectives.max([1, 2, 3])
    attempt = run.attempt(1)
    attempt.root.mkdir()
    flight_recorder.write(attempt, 0)
    last = read_json(attempt.flight_record("gloo", "0.json"))["entries"][-1]
    assert (last["profiling_name"], last["input_sizes"]) == ("gloo:all_reduce", [[3]])


def test_reductions_follow_the_backward_pass_on_a_stream_of_their_own(device: StandIn) -> None:
    during = device.between("micro_batch 4", "micro_batch 4 ended")
    streams = [event.detail for event in during if event.what == "stream"]
    assert streams.index("wait_stream") < streams.index("enter") < streams.index("record_stream")
