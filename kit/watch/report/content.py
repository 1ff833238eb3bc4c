"""The content of a report, gathered once: the facts of `watch`, the curve as columns, and attempts.

The other modules of this room know the run only by this value and by the small files that they name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.tracking import curves
from kit.watch import view
from kit.watch.history import history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.cluster.snapshot import Snapshot
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.output.charts.chart import Floats
    from kit.store.paths import Run
    from kit.tracking.curves import Columns
    from kit.watch.history import AttemptTimes
    from kit.watch.view import Facts


@dataclass(frozen=True)
class Content:
    """Everything that the report shows but for the small files of corpus, tokenizer and scores."""

    run: Run
    recipe: Recipe
    facts: Facts
    curve: Columns
    usual: float | None  # seconds of a step, the median
    lost: Sequence[tuple[float, float]]  # Unix times between which steps were done and lost
    nodes: Mapping[int, str]  # of rank 0, by attempt
    ranks: Mapping[int, int]  # by attempt
    public: bool = False  # to be published with the model

    @property
    def now(self) -> float:
        """Unix time of the look."""
        return float(self.facts["time"])

    @property
    def training(self) -> Facts:
        """The state of the training: steps, losses, rates."""
        found: Facts = self.facts["training"]
        return found

    @property
    def attempts(self) -> Sequence[Facts]:
        """The attempts that started, in order."""
        found: Sequence[Facts] = self.facts["attempts"]
        return found

    @property
    def state(self) -> str:
        """The state of the training, as `status` names it."""
        return str(self.facts["chain"]["train"]["state"])


def gather(project: Project, chain: Mapping[str, Any], seen: Snapshot, now: float) -> Content:
    """Read the run once; `chain` is the state of each stage, as kit/relay/status.py gives it."""
    facts = view.facts(project, chain, seen, now)
    past = history(seen, alive=facts["chain"]["train"]["state"] in ("running", "queued"))
    starts = {one.number: one.start for one in seen.begun if one.start is not None}
    return Content(
        project.run,
        project.recipe,
        facts,
        _curve(seen, project.recipe),
        past.seconds,
        [span for one in past.attempts for span in _lost(one)],
        {number: start.get("node", "") for number, start in starts.items()},
        {one.number: one.ranks for one in past.attempts},
    )


def _curve(seen: Snapshot, recipe: Recipe) -> Columns:
    """The curve of a run; its ledgers are read once more, for learning rates and numbers of samples."""
    steps, rates, samples = seen.steps, [np.empty(0)], [np.empty(0)]
    for one, mask in zip(seen.begun, seen.current, strict=True):
        attempt = seen.run.attempt(one.number)
        rate, sample = curves.rates_and_samples(attempt, one.rows.steps.step)
        rates.append(rate[mask])
        samples.append(sample[mask])
    return curves.assembled(
        steps.step.astype(np.float64),
        steps.time,
        steps.loss,
        steps.rate,
        np.concatenate(rates),
        np.concatenate(samples),
        seen.validations,
        recipe,
    )


def _lost(one: AttemptTimes) -> list[tuple[float, float]]:
    """When an attempt did steps that were lost: from the begin of the first to the end of the last."""
    gone: Floats = np.concatenate([[0], (~one.kept).astype(np.float64), [0]])
    first, last = np.flatnonzero(np.diff(gone) > 0), np.flatnonzero(np.diff(gone) < 0) - 1
    begin = one.ended[first] - one.seconds[first]
    return [(float(a), float(b)) for a, b in zip(begin, one.ended[last], strict=True)]
