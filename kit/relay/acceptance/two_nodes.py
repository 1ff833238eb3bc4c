"""Some steps over two nodes, where the cluster has them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from kit.output.quantities import count
from kit.relay.acceptance.measured import steps_of
from kit.relay.acceptance.verdicts import Verdict
from kit.store import records
from kit.tracking import ledger

if TYPE_CHECKING:
    from kit.relay.acceptance.trials import Trials
    from kit.store.paths import Run

_STEPS = 12
_NAME = "two nodes"


def two_nodes(trials: Trials, alone: Run | None) -> Verdict:
    """Train on both; `alone`: the run of many steps on one node, to compare the rate with."""
    if trials.cluster.training.nodes == 1:
        return Verdict(_NAME, "not tried", "one node")
    own: dict[str, Any] = {"steps": _STEPS, "warmup_steps": 2, "validate_every": _STEPS}
    own |= {"samples_every": None} | _divided(trials)
    run = trials.run("two-nodes", own, nodes=2)
    trials.discard(run)
    start = records.start(ledger.attempts(run)[0])
    topology, rate = start["topology"], _rate(run)
    words = (
        f"{count(topology['ranks'], 'rank')} over {topology['backend']} trained {_STEPS} steps at "
    )
    words += f"{rate:,.0f} tokens/s"
    facts = {"topology": topology, "tokens_per_second": rate, "addresses": start["addresses"]}
    if alone is not None:
        facts["times_one_node"] = rate / _rate(alone)
        words += f", {facts['times_one_node']:.2f} times the rate of one node"
    return Verdict(_NAME, "ok", words, facts)


def _divided(trials: Trials) -> dict[str, int]:
    """A larger batch, if the micro-batches of one node's cannot be shared among the ranks of two."""
    training, ranks = trials.recipe.training, trials.cluster.training.ranks
    uneven = training.global_batch % (training.micro_batch_size * ranks)
    return {"global_batch": 2 * training.global_batch} if uneven else {}


def _rate(run: Run) -> float:
    return statistics.median(row["tokens_per_second"] for row in steps_of(run))
