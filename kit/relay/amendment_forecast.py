"""Forecast for an amendment of a run's end: learning rate, steps and arrival, before and after."""

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

_STEPS = 100  # the last ones, for the median time of a step


@dataclass(frozen=True)
class Forecast:
    """A run's schedule without an amendment and with it, if its next attempt starts from `step`."""

    step: int
    before: Schedule
    after: Schedule
    anew: bool
    seconds: float | None  # recent seconds per step; None if the ledger has no step


def forecast(project: Project, proposal: Proposal) -> Forecast | None:
    """Forecast a run with and without an amendment; None if its end stays the same or is unknown.

    Raises ConfigError if all remaining steps would have a learning rate of 0.
    """
    changes_of_end = [row for row in proposal.rows if row["key"] in amendments.END]
    if not changes_of_end:
        return None
    run, recipe = project.run, project.recipe
    step, attempts, first = _newest_step(run), schedule.starts(run), schedule.origin(run)

    def derive(recipe: Recipe, rows: list[amendments.Amendment]) -> Schedule:
        starts = [*attempts, schedule.AttemptStart(step, len(rows))]
        return schedule.derive(recipe.training, rows, starts, tokens.ends(recipe), first)

    rows = amendments.read(run)
    try:
        before, after = derive(recipe, rows), derive(proposal.recipe, [*rows, *proposal.rows])
    except StageError:  # epochs of tokens that do not exist yet
        return None
    if after.is_spent:
        key, new = changes_of_end[0]["key"], changes_of_end[0]["new"]
        raise ConfigError(
            f"{key}={new}: {schedule.SPENT.format(step=step)}; let the learning rate jump with "
            "`--schedule anew`, or fork an earlier checkpoint"
        )
    anew = any(row["schedule"] == amendments.ANEW for row in changes_of_end)
    return Forecast(step, before, after, anew, _seconds(run, step))


def lines(forecast: Forecast) -> list[str]:
    """The forecast as text, each value before and after."""
    step, before, after = forecast.step, forecast.before, forecast.after
    text = [f"steps left after step {step}: {_left(before, step)} -> {_left(after, step)}"]
    if _left(after, step):
        old = f"{before.rate(step):.3g}" if _left(before, step) else "none"
        text.append(f"learning rate of step {step + 1}: {old} -> {after.rate(step):.3g}")
        if forecast.anew and step:
            last, new = before.rate(step - 1), after.rate(step)
            text.append(
                f"the learning rate jumps from {last:.3g} at step {step} to {new:.3g} at step {step + 1}, "
                f"by {new - last:.3g}"
            )
    text.append(f"learning rate of the last step: {_last(before)} -> {_last(after)}")
    if forecast.seconds is not None:
        seconds, now = forecast.seconds, time.time()
        arrivals = [_arrival(rates, step, seconds, now) for rates in (before, after)]
        text.append(f"arrival, at {seconds:.3g} s per step: {' -> '.join(arrivals)}")
    return text


def _left(rates: Schedule, step: int) -> int:
    return max(0, rates.end - step)


def _last(rates: Schedule) -> str:
    return f"{rates.rate(rates.end - 1):.3g} at step {rates.end}"


def _arrival(rates: Schedule, step: int, seconds: float, now: float) -> str:
    """The local time of the last step, without further interruptions."""
    left = _left(rates, step)
    arrival = time.localtime(now + left * seconds)
    return time.strftime("%Y-%m-%d %H:%M %Z", arrival) if left else "reached already"


def _newest_step(run: Run) -> int:
    """The step that the next attempt will start from.

    While an attempt is running, that is its present step: it saves when it is interrupted.
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
    """The median seconds of the last steps, without validations and saves."""

    seconds = [row["seconds"] for row in _steps(run, max(-1, step - _STEPS))]
    return statistics.median(seconds) if seconds else None


def _steps(run: Run, after: int) -> list[StepRow]:
    return [row for row in ledger.canonical(run, after) if row["kind"] == "step"]
