"""A fork does what its recipe says: for each key of `training`, how its effect is seen."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from kit.config import amendments
from kit.config.cluster import Cluster
from kit.config.recipe import Health, Recipe, Training
from kit.config.section import read_resolved
from kit.relay import fork, resolve
from kit.run import directory
from kit.tracking import ledger
from kit.training import checkpoint, loss, weights
from kit.training.attempt import RankInfo, claim
from kit.training.collectives import Collectives
from kit.training.context import Context
from kit.training.device import Device
from kit.training.health import Watchdog
from kit.training.interruption import SIGNALS, Interruption
from kit.training.loop import Loop
from tests.conftest import ROOT
from tests.relay import DEMO, copy_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kit.store.paths import Run

# Some hundred weights a row of the vocabulary, and 16 steps of milliseconds; the fork begins at step 12,
# when there are losses enough for a median.
PARENT = (
    "tracking.mlflow=null", "tracking.tensorboard=false", "model.n_layer=1", "model.n_embd=8",
    "model.n_head=2", "model.n_positions=16", "training.precision=bf16", "training.steps=16",
    "training.global_batch=4", "training.micro_batch=2", "training.learning_rate=1e-2",
    "training.warmup_steps=2", "training.validate_every=8", "training.validation_blocks=2",
    "training.checkpoint_every=12", "cluster.training.ranks_per_node=1",
)  # fmt: skip
AT = 12


@dataclass(frozen=True)
class Seen:
    """What is seen of a fork that has come to its end."""

    curve: list[ledger.Row]  # its steps
    validations: list[ledger.Row]
    samples: list[ledger.Row]
    health: list[ledger.Row]
    checkpoints: list[str]
    weights: dict[str, bytes]
    outcome: dict[str, Any]
    logits: int  # how often they were computed
    bucket: int  # of DeepSpeed's reductions
    gradients: bool  # whether any were left at its end


@dataclass(frozen=True)
class Row:
    """A fork with `change` is seen to differ in `seen` from one without; both have `base`."""

    change: str
    seen: str
    base: tuple[str, ...] = ()


WSD = ("training.decay=wsd", "training.decay_share=0.5")
OFTEN = ("training.checkpoint_every=1",)
HOT = ("training.learning_rate=10",)  # losses and gradients rise
SPIKES = (*HOT, "training.health.gradient_spike=1.0001")
FULL = ("training.save_pause=0.01",)  # the last save fails: see `forked`
TESTS = "tests/programs/test_engine.py::"
EFFECTS: dict[str, Row | str] = {
    "steps": Row("training.steps=14", "curve"),
    "epochs": Row("training.epochs={epochs}", "curve"),
    "global_batch": Row("training.global_batch=8", "curve"),
    "micro_batch_reason": "tests/unit/test_micro_batch.py::test_a_fork_resolves_auto_for_itself",
    "micro_batch": Row("training.micro_batch=1", "logits"),
    "seed": Row("training.seed=3", "curve"),
    "labels": Row("training.labels=inside", "curve"),
    "learning_rate": Row("training.learning_rate=1e-3", "curve"),
    "minimum_learning_rate": Row("training.minimum_learning_rate=5e-3", "curve"),
    "warmup_steps": Row("training.warmup_steps=15", "curve"),
    "decay": Row("training.decay=linear", "curve"),
    "decay_share": Row("training.decay_share=0.5", "curve", ("training.decay=wsd",)),
    "decay_shape": Row("training.decay_shape=linear", "curve", WSD),
    "weight_decay": Row("training.weight_decay=5", "weights"),
    "muon_momentum": f"{TESTS}test_the_recipe_holds_after_a_load_and_not_the_settings_of_the_checkpoint",
    "beta1": Row("training.beta1=0.1", "weights"),
    "beta2": Row("training.beta2=0.1", "weights"),
    "epsilon": Row("training.epsilon=0.1", "weights"),
    "clip": Row("training.clip=1e-4", "weights", ("training.epsilon=1e-3",)),
    "gradient_dtype": Row("training.gradient_dtype=bf16", "curve"),
    "loss_chunk": Row("training.loss_chunk=8", "logits"),
    "loss_kernel": "tests/programs/test_loss.py::test_ligers_kernels_give_the_same",
    "z_loss": Row("training.z_loss=0.1", "weights"),
    "compile": f"{TESTS}test_a_model_that_is_to_be_compiled_is",
    "deterministic": "tests/programs/test_numerics.py::test_deterministic_kernels_are_asked_of_a_gpu",
    "validate_every": Row("training.validate_every=2", "validations"),
    "validation_blocks": Row("training.validation_blocks=1", "validations"),
    "sample_tokens": Row("training.sample_tokens=2", "samples"),
    "samples_every": Row("training.samples_every=8", "samples", ("training.validate_every=2",)),
    "checkpoint_every": Row("training.checkpoint_every=14", "checkpoints"),
    "keep": Row("training.keep=3", "checkpoints", OFTEN),
    "keep_every": Row("training.keep_every=13", "checkpoints"),
    "save_tries": Row("training.save_tries=2", "outcome", (*FULL, "training.save_tries=3")),
    "save_pause": "tests/end_to_end/test_long_run.py::"
    "test_a_full_disk_stops_no_run_that_finds_room_later",
    "health.on_bad_step": Row("training.health.on_bad_step=stop", "outcome", SPIKES),
    "health.loss_spike": Row("training.health.loss_spike=1e-9", "health", HOT),
    "health.gradient_spike": Row(SPIKES[1], "health", HOT),
    "health.window": Row("training.health.window=10", "health", SPIKES),
    "health.limit": Row("training.health.limit=1", "outcome", SPIKES),
    "health.hang_seconds": "tests/programs/test_health.py::"
    "test_a_step_without_end_leaves_its_stacks_and_ends_the_process",
    "health.start_seconds": "tests/programs/test_health.py::"
    "test_a_step_without_end_leaves_its_stacks_and_ends_the_process",
    "deepspeed": Row(
        "training.deepspeed={{zero_optimization: {{stage: 2, reduce_bucket_size: 1000}}}}", "bucket"
    ),
}


def test_the_table_has_every_key_that_a_fork_may_change() -> None:
    keys = [key for key in Training.model_fields if key != "health"]
    keys += [f"health.{key}" for key in Health.model_fields]
    may = {key for key in keys if not amendments.is_in(f"training.{key}", amendments.BOUND)}
    assert set(EFFECTS) == may


@pytest.mark.parametrize("key", [key for key, how in EFFECTS.items() if isinstance(how, str)])
def test_what_is_seen_elsewhere_is_there(key: str) -> None:
    path, test = str(EFFECTS[key]).split("::")
    assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def forked(
    alone: None, tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Seen]]:
    """What is seen of a fork of one parent, with the changes given."""
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGCONT)}
    workspace = copy_of(tokens, tmp_path_factory.mktemp("forks"))
    project = resolve.load(DEMO, [f"workspace={workspace}", *PARENT])
    parent = directory.prepare(project)
    blocks = train(parent)[0]._batches.blocks

    @cache
    def of(changes: tuple[str, ...], *, signalled: bool = False) -> Seen:
        given = [change.format(epochs=13.5 * 4 / blocks) for change in changes]
        name = f"fork-{len(list(parent.root.parent.iterdir()))}"
        run = fork.begin(project, AT, [f"name={name}", *given])
        if FULL[0] in changes:  # a file stands in the way of the folder that the save makes
            last = run.checkpoint(16, 1)
            last.with_name(f".{last.name}").touch()
        return seen(run, signalled=signalled)

    yield of
    for number, handler in handlers.items():
        signal.signal(number, handler)


def train(run: Run, *, signalled: bool = False) -> tuple[Loop, dict[str, Any], int]:
    """One attempt in this process: its loop, how it ended, and how often logits were computed.

    `signalled`: SIGTERM comes during the first micro-batch.
    """
    recipe, cluster = read_resolved(run.recipe, Recipe), read_resolved(run.cluster, Cluster)
    attempt, _ = claim(run, RankInfo("test.0", 0, 1, 0, 1), 0)
    watchdog = Watchdog(attempt.hang, "test.0", 0, 3600, 3600)
    collectives = Collectives(0, 1, Interruption(), dist.new_group(backend="gloo"))
    loop = Loop(Context(run, recipe, cluster, attempt, Device("cpu", 0), collectives, watchdog))
    if signalled:
        head = loop._engine._engine.module.gpt2.lm_head
        head.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with mock.patch.object(loss, "_logits", wraps=loss._logits) as logits:
        try:
            return loop, loop.run(), logits.call_count
        finally:
            watchdog.disarm()


def seen(run: Run, *, signalled: bool = False) -> Seen:
    loop, outcome, logits = train(run, signalled=signalled)
    rows = ledger.comparable(
        [row for attempt in ledger.attempts(run) for row in ledger.rows(attempt)]
    )
    newest = checkpoint.committed(run)[0]
    return Seen(
        curve=[row for row in rows if row["kind"] == "step"],
        validations=[row for row in rows if row["kind"] == "validation"],
        samples=[row for row in rows if row["kind"] == "sample"],
        health=[row for row in rows if row["kind"] == "health"],
        checkpoints=sorted(path.name for path in run.checkpoints.iterdir()),
        weights={
            name: value.float().numpy().tobytes()
            for name, value in weights.read(newest.state, torch.float32, newest.ensure_own).items()
        },
        outcome=outcome,
        logits=logits,
        bucket=loop._engine._engine.zero_reduce_bucket_size(),
        gradients=any(loop._engine._engine.optimizer.averaged_gradients.values()),
    )


ROWS = {key: how for key, how in EFFECTS.items() if isinstance(how, Row)}


@pytest.mark.parametrize("key", ROWS)
def test_a_key_of_a_fork_has_its_effect(forked: Callable[..., Seen], key: str) -> None:
    row = ROWS[key]
    one, other = forked(row.base), forked((*row.base, row.change))
    assert getattr(one, row.seen) != getattr(other, row.seen)


def test_a_step_has_its_z_loss_beside_the_cross_entropy(forked: Callable[..., Seen]) -> None:
    plain, other = forked(()), forked((ROWS["z_loss"].change,))
    assert other.curve[0]["loss"] == plain.curve[0]["loss"]  # of the same weights
    assert all("z_loss" not in row for row in plain.curve)
    assert all(row["z_loss"] > 0 for row in other.curve)


def test_a_checkpoint_to_keep_is_made_where_others_come_by_the_clock(
    forked: Callable[..., Seen],
) -> None:
    made = forked(("training.checkpoint_every=null", "training.keep_every=3")).checkpoints
    assert any(name.startswith("step-00000015.") for name in made)


def test_a_signal_between_two_micro_batches_leaves_no_gradients(
    forked: Callable[..., Seen],
) -> None:
    left = forked(("training.micro_batch=1",), signalled=True)  # the first of four
    assert left.outcome["outcome"] == "interrupted"
    assert not left.curve
    assert not left.gradients
