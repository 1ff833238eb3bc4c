"""A training with preemptions and crashes on a real Slurm, beside the simulation of it.

Preemption, exit trap, requeue, checkpoints and ledger are the real ones; time is scaled: seconds between
two interruptions in place of hours. The simulation is given what the parts of an attempt took on average,
and after which step each interruption came; it has to find how much of the held time was kept.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.cluster import decisions
from kit.cluster.snapshot import snapshot
from kit.plan.buckets import KEPT
from kit.plan.simulation.attempt import BUCKETS, Begin, play
from kit.plan.simulation.conditions import Conditions, Costs
from kit.plan.simulation.draws import Draws
from kit.store.files import read_json
from kit.watch.goodput import goodput
from kit.watch.history import history
from tests.relay import copy_of

from .trial import ALONE, PATIENCE, WHOLE, processes_of, submit, wait_for_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kit.store.paths import Run
    from kit.watch.history import AttemptTimes

    from .conftest import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(3600)]

EVERY, MICRO = 20, 2
REPLAY = (
    "name=replay",
    "model.n_layer=1",
    "model.n_embd=64",
    "model.n_positions=64",
    "training.global_batch=16",
    f"training.micro_batch={16 // MICRO}",
    "training.validate_every=200",
    "training.validation_blocks=4",
    f"training.checkpoint_every={EVERY}",
    "training.steps=1000000",
    "tracking.tensorboard=false",
    "tracking.mlflow=null",
    "cluster.training.failures=9",
    ALONE,
)
FAILURE, PREEMPTION = "failures", "preemptions"
EVENTS = (PREEMPTION, FAILURE, PREEMPTION, PREEMPTION, FAILURE)  # one an attempt
AT_LEAST, BEYOND = 10.0, 20.0  # seconds of an attempt's steps before it


def test_the_simulation_of_a_run_keeps_the_share_that_the_run_kept(
    slurm: Slurm, tokens: Path, tmp_path: Path
) -> None:
    run, jobs = submit(copy_of(tokens, tmp_path), *REPLAY, job="train")
    came = [_interrupt(slurm, run, jobs["train"], number) for number in range(len(EVENTS))]
    wait_for_attempt(run, len(EVENTS) + 1)
    time.sleep(AT_LEAST)
    run.stop.touch()
    slurm.wait(jobs["train"], "FAILED", timeout=PATIENCE)
    steps = read_json(run.attempt(len(EVENTS) + 1).end)["saved"]

    reasons = [row["reason"].split(" (")[0] for row in decisions.read(run)]
    assert reasons[-1] == "stopped: STOP file"
    assert reasons[:-1] == ["crash" if kind == FAILURE else "preemption" for kind in EVENTS]
    seen = snapshot(run)
    past = history(seen, alive=False)
    spent = goodput(seen, past, time.time(), alive=False).whole
    costs = _costs(past.attempts, spent.buckets, came, steps)
    conditions = Conditions(steps, costs, every=EVERY, micro_batches=MICRO)
    simulated = dict.fromkeys(BUCKETS, 0.0)
    done = 0.0
    for number in range(len(past.attempts)):
        played = play(conditions, _begin(costs, past.attempts, came, number, done))
        done += float(played.kept[0])
        for name, seconds in zip(BUCKETS, played.seconds, strict=True):
            simulated[name] += float(seconds[0])
    assert done == steps
    share = simulated[KEPT] / sum(simulated.values())
    print({name: round(ns / 1e9, 1) for name, ns in spent.buckets.items() if ns})
    print({name: round(seconds, 1) for name, seconds in simulated.items()}, costs)
    print(f"kept of the held time: {spent.share:.4f}, simulated {share:.4f}")
    assert share == pytest.approx(spent.share, rel=0.02)


def _begin(
    costs: Costs, attempts: Sequence[AttemptTimes], came: Sequence[float], number: int, done: float
) -> Begin:
    """The begin of an attempt, and after which of its steps it is interrupted."""
    one, never, kind = attempts[number], np.array([np.inf]), None
    at = never
    if number < len(came):
        kind = EVENTS[number]
        before = int((one.ended <= came[number]).sum())
        fraction = (came[number] - one.ended[before - 1]) / costs.advance
        steps = before + min(float(fraction), 0.99)
        saves = int((one.saves[:, 0] <= came[number]).sum())
        at = np.array([costs.start + steps * costs.advance + saves * costs.blocked])
    return Begin(
        done=np.array([done]),
        trained=np.zeros(1),
        attempts=np.array([float(number)]),
        failure=at if kind == FAILURE else never,
        preemption=at if kind == PREEMPTION else never,
        early=np.zeros(1),
    )


def _interrupt(slurm: Slurm, run: Run, job: str, number: int) -> float:
    """Interrupt an attempt after some of its steps, and see the next one off; returns when it was."""
    wait_for_attempt(run, number + 1, steps=2)
    drawn = Draws(1).exponential("replay", np.array([0]), np.array([number]))
    time.sleep(AT_LEAST + BEYOND * float(drawn[0]))
    came = time.time()
    if EVENTS[number] == FAILURE:
        os.kill(processes_of(job, number)[0], signal.SIGKILL)
        slurm.wait(job, lambda job: int(job["Restarts"]) > number, timeout=PATIENCE)
    else:
        high = slurm.submit("sleep 600", "--partition=high", *WHOLE)
        slurm.wait(job, lambda job: job.get("PreemptTime", "None") != "None", timeout=PATIENCE)
        came = (came + time.time()) / 2
        slurm.wait(high, "RUNNING", timeout=PATIENCE)
        slurm.run("scancel", high)
    slurm.start_now(job)
    return came


def _costs(
    attempts: Sequence[AttemptTimes], buckets: Mapping[str, int], came: Sequence[float], steps: int
) -> Costs:
    """What the parts of an attempt took, on average."""
    saves = np.concatenate([one.saves for one in attempts])
    done = sum(len(one.steps) for one in attempts)
    told = [one for one in attempts if one.left is not None]
    crashed = [(one, at) for one, at in zip(attempts, came, strict=False) if one.left is None]
    starts = {
        name: buckets[name] / 1e9 / len(attempts) for name in buckets if name.startswith("startup")
    }
    return Costs(
        step=buckets[KEPT] / 1e9 / steps,
        blocked=float(saves[:, 2].mean()),
        writing=float(saves[:, 1].mean()),
        # And what lies between two rows of the ledger, which is in no step.
        validation=(buckets["validation"] + _between_rows(attempts)) / 1e9 / done,
        leaving=float(np.mean([_ended(one) - one.left for one in told if one.left is not None])),
        crash=float(np.mean([_ended(one) - at for one, at in crashed])),
        **starts,
    )


def _between_rows(attempts: Sequence[AttemptTimes]) -> float:
    """Nanoseconds between steps that neither a save nor a validation takes."""
    gaps = 0.0
    for one in attempts:
        gaps += float((one.ended[1:] - one.seconds[1:] - one.ended[:-1]).sum())
        gaps -= float(one.saves[:, 2].sum() + one.validations[:, 1].sum())
    return max(0.0, gaps) * 1e9


def _ended(one: AttemptTimes) -> float:
    assert one.decision is not None
    return one.decision["time"]
