"""The largest micro-batch that fits, held against the plan's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.errors import EkidenError
from kit.plan.micro_batch import divisors
from kit.relay.acceptance.verdicts import Verdict
from kit.relay.fitting import out_of_memory, search

if TYPE_CHECKING:
    from typing import Any

    from kit.relay.acceptance.trials import Trials

_TRIES = 5


def micro_batch(trials: Trials, planned: dict[str, Any]) -> Verdict:
    """Find the largest micro-batch that fits: from the plan's up, or down from an out-of-memory error."""
    sizes = divisors(trials.recipe, trials.cluster.training.ranks_per_node)
    predicted = _predicted(trials, planned)
    begin = max((i for i, n in enumerate(sizes) if n <= (predicted or 0)), default=0)
    if predicted is None:
        begin = sizes.index(trials.recipe.training.micro_batch_size)
    fits = search(sizes, begin, lambda number: _fits(trials, number), tries=_TRIES)
    largest = max((n for n, fit in fits.items() if fit), default=None)
    facts = {
        "tried": {str(n): fit for n, fit in fits.items()},
        "largest": largest,
        "plan": predicted,
    }
    wanted = trials.recipe.training.micro_batch_size
    said = "unknown" if predicted is None else str(predicted)
    if largest is None or largest < wanted:
        words = f"{largest or 'none'} fits, but training.micro_batch={wanted}; plan: {said}"
        return Verdict("micro-batch", "bad", words, facts)
    bound = "" if largest < sizes[-1] else ", all that a rank has in a step"
    return Verdict("micro-batch", "ok", f"{largest} fits{bound}; plan: {said}", facts)


def _predicted(trials: Trials, planned: dict[str, Any]) -> int | None:
    """The plan's largest micro-batch; None if the memory of the device is unknown."""
    by_choice = planned["memory"]["largest_micro_batch"]["value"]
    choice = "checkpointing" if trials.recipe.model.activation_checkpointing else "plain"
    largest: int | None = by_choice[choice]
    return largest


def _fits(trials: Trials, number: int) -> bool:
    own = {"micro_batch": number, "steps": 2, "warmup_steps": 1}
    try:
        trials.discard(trials.run(f"micro-batch-{number}", own))
    except EkidenError as error:
        if not out_of_memory(error):
            raise
        return False
    return True
