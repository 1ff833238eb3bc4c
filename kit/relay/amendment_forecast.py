"""What an amendment of a run's end makes of it: learning rate, steps and arrival, before and after."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.config import amendments
from kit.data import tokens
from kit.errors import ConfigError, StageError
from kit.plan import schedule
from kit.tracking import ledger

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.plan.schedule import Schedule
    from kit.run.proposal import Proposal
    from kit.store.paths import Run
    from kit.tracking.rows import StepRow

_STEPS = 100  # the last ones, of whose seconds the median is meant


@dataclass(frozen=True)
class Forecast:
    """A run's schedule without an amendment and with it, if its next attempt starts from `step`."""

    step: int
    before: Schedule
    after: Schedule
    anew: bool
    seconds: float | None  # of a step, lately; None where the ledger has no step


def forecast(project: Project, amendment: Proposal) -> Forecast | None:
    """What an amendment makes of a run; None where its end stays, or is not known yet.

    Raises ConfigError where all steps to come would have a learning rate of 0.
    """
    of_the_end = [row for row in amendment.rows if row["key"] in amendments.END]
    if not of_the_end:
        return None
    run, recipe = project.run, project.recipe
    step, attempts, first = _newest_step(run), schedule.starts(run), schedule.origin(run)

    def then(its: Recipe, rows: list[amendments.Amendment]) -> Schedule:
        known = [*attempts, schedule.AttemptStart(step, len(rows))]
        return schedule.derive(its.training, rows, known, tokens.ends(its), first)

    rows = amendments.recorded(run)
    try:
        before, after = then(recipe, rows), then(amendment.recipe, [*rows, *amendment.rows])
    except StageError:  # epochs of tokens that are not made yet
        return None
    if after.is_spent:
        key, new = of_the_end[0]["key"], of_the_end[0]["new"]
        raise ConfigError(
            f"{key}={new}: {schedule.SPENT.format(step=step)}; give --schedule anew, which lets it jump, "
            "or fork an earlier checkpoint"
        )
    anew = any(row["schedule"] == amendments.ANEW for row in of_the_end)
    return Forecast(step, before, after, anew, _seconds(run, step))


def lines(found: Forecast) -> list[str]:
    """What to tell of it: each value before and after."""
    step, before, after = found.step, found.before, found.after
    told = [f"steps left after step {step}: {_left(before, step)} -> {_left(after, step)}"]
    if _left(after, step):
        had = f"{before.rate(step):.3g}" if _left(before, step) else "none"
        told.append(f"learning rate of step {step + 1}: {had} -> {after.rate(step):.3g}")
        if found.anew and step:
            last, now = before.rate(step - 1), after.rate(step)
            told.append(
                f"the learning rate jumps from {last:.3g} at step {step} to {now:.3g} at step {step + 1}, "
                f"by {now - last:.3g}"
            )
    told.append(f"learning rate of the last step: {_last(before)} -> {_last(after)}")
    if found.seconds is not None:
        its, now = found.seconds, time.time()
        arrivals = [_arrival(rates, step, its, now) for rates in (before, after)]
        told.append(f"arrival, at {its:.3g} s a step: {' -> '.join(arrivals)}")
    return told


def _left(rates: Schedule, step: int) -> int:
    return max(0, rates.end - step)


def _last(rates: Schedule) -> str:
    return f"{rates.rate(rates.end - 1):.3g} at step {rates.end}"


def _arrival(rates: Schedule, step: int, seconds: float, now: float) -> str:
    """When the last step is done, in local time, if nothing interrupts the run."""
    left = _left(rates, step)
    then = time.localtime(now + left * seconds)
    return time.strftime("%Y-%m-%d %H:%M %Z", then) if left else "there already"


def _newest_step(run: Run) -> int:
    """The step that the next attempt will start from, as far as that is known.

    While an attempt is at work, that is the one it has come to: it saves when it leaves.
    """
    newest = max(
        (n for n in run.committed_checkpoints().values()),
        key=lambda n: (n[1], n[0]),
        default=(0, 0),
    )
    attempts = ledger.attempts(run)
    if not attempts or attempts[-1].end.is_file():
        return newest[0]
    steps = _steps(run, newest[0])
    return max(newest[0], steps[-1]["step"]) if steps else newest[0]


def _seconds(run: Run, step: int) -> float | None:
    """The median of the last steps, validations and saves left out."""
    seconds = [row["seconds"] for row in _steps(run, max(-1, step - _STEPS))]
    return statistics.median(seconds) if seconds else None


def _steps(run: Run, after: int) -> list[StepRow]:
    return [row for row in ledger.canonical(run, after) if row["kind"] == "step"]
