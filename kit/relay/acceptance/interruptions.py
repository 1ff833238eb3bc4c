"""Runs that each signal interrupts, held against runs without one, with `deterministic` on and off."""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.cluster import decisions
from kit.cluster.jobs import Job
from kit.cluster.supervisor import Drill
from kit.relay.acceptance import comparison
from kit.relay.acceptance.measured import seconds_a_step
from kit.relay.acceptance.trials import settings
from kit.relay.acceptance.verdicts import Verdict

if TYPE_CHECKING:
    from kit.relay.acceptance.trials import Trials
    from kit.store.paths import Run

_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL)
_FEWEST, _SECONDS = 12, 3.0  # of a run with signals: they must come in mid-run


@dataclass(frozen=True)
class Pair:
    """A run without interruption, and the same one with them."""

    whole: Run
    interrupted: Run


def name_of(*, deterministic: bool) -> str:
    """The name of the part."""
    return f"resume, {'deterministic' if deterministic else 'not deterministic'}"


def interrupt(trials: Trials, seconds: float, *, deterministic: bool) -> Pair:
    """Train twice, once with each signal; `seconds`: of a step."""
    number = 4 * math.ceil(max(_FEWEST, _SECONDS / seconds) / 4)
    own = settings(number) | {"checkpoint_every": number // 4, "deterministic": deterministic}
    label = "deterministic" if deterministic else "free"
    whole = trials.run(f"{label}-whole", own)
    drills = [Drill(number * i // 4, one) for i, one in enumerate(_SIGNALS, 1)]
    return Pair(whole, trials.run(f"{label}-interrupted", own, drills))


def resumed(trials: Trials, pair: Pair, *, deterministic: bool) -> Verdict:
    """Whether the interrupted run survived each signal, and ended as the other one did."""
    name = name_of(deterministic=deterministic)
    reasons = [row["reason"] for row in decisions.read(pair.interrupted) if row["requeued"]]
    comparison.ask(pair.interrupted, pair.whole)
    trials.call(pair.interrupted, Job(comparison.NAME, comparison.work), ranks=1)
    found = comparison.answer(pair.interrupted)
    for run in (pair.whole, pair.interrupted):
        trials.discard(run)
    facts = {"interruptions": reasons, **found}
    if len(reasons) < len(_SIGNALS):
        words = f"only {len(reasons)} of {len(_SIGNALS)} signals were survived"
        return Verdict(name, "bad", words, facts)
    if found["equal"]:
        return Verdict(name, "ok", f"bit-equal after {', '.join(reasons)}", facts)
    words = (
        f"not bit-equal: weights by up to {found['weights']:.3g}, losses by {found['losses']:.3g}"
    )
    words += f" from step {found['first']:,} on" if found["first"] else ""
    return Verdict(name, "bad" if deterministic else "ok", words, facts)


def cost(deterministic: Pair, free: Pair) -> Verdict:
    """How much longer a step takes with `training.deterministic`."""
    seconds = {"on": seconds_a_step(deterministic.whole), "off": seconds_a_step(free.whole)}
    more = seconds["on"] / seconds["off"] - 1
    words = f"a step takes {abs(more):.1%} {'more' if more >= 0 else 'less'} time"
    words += " with training.deterministic=true"
    return Verdict("determinism", "ok", words, {"seconds_a_step": seconds, "cost": more})
