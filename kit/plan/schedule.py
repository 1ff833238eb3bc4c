"""The schedule of the learning rate: a warm-up and a decay, in pieces where the run's end was amended.

    rates = schedule.of_run(run, recipe.training, ends, attempt.number)
    rates.rate(200)  # of step 201

The rate is a function of the step and of what is on record: the recipe, `amendments.jsonl`, `fork.json`
and every attempt's `start.json`. An amendment takes effect at the step that the first attempt to know it
started from. That step is written once: attempts that die and start again from there or from an earlier
checkpoint, or roll back, find the same pieces, and a step has the same rate whoever does it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kit.config import amendments
from kit.errors import ConfigError
from kit.store import records
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.config.amendments import Amendment
    from kit.config.recipe import Training
    from kit.store.paths import Run

    Ends = Callable[[Training], int]  # the last step of a run with these settings

# Of `decay: wsd`, where the recipe leaves them open. MiniCPM (arXiv 2404.06395) finds a decay over 10% of
# the steps enough; of the shapes of Hägele et al. (arXiv 2405.18392) 1-sqrt ends with the lowest loss.
DECAY_SHARE = 0.1
DECAY_SHAPE = "1-sqrt"
# What of its share a rate still has, when a share `gone` of the decay is done.
_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda gone: 1.0,  # noqa: ARG005
    "linear": lambda gone: 1.0 - gone,
    "cosine": lambda gone: 0.5 * (1.0 + math.cos(math.pi * gone)),
    "1-sqrt": lambda gone: 1.0 - math.sqrt(gone),
}
# Why nothing is trained on from there.
SPENT = "the learning rate has come down to 0 at step {step}, and steps at 0 would train nothing"
# In a fork those ask for another curve from step 0; with these it goes on from the rate it has.
_ANEW = ("learning_rate", "warmup_steps")
_SHAPING = ("minimum_learning_rate", "decay", "decay_share", "decay_shape")


@dataclass(frozen=True)
class Segment:
    """A part of a schedule: it holds from the step after `step` on, until the next piece does."""

    step: int  # full steps done when it begins
    end: int  # the last step of the run, as it was known then
    rate: float | None = (
        None  # of step `step`, to go on from; None: the recipe's schedule from step 0
    )


@dataclass(frozen=True)
class Schedule:
    """The settings of a run, and the pieces that its end made of them, in the order of their steps."""

    training: Training
    pieces: tuple[Segment, ...]

    @property
    def end(self) -> int:
        """The last step of the run."""
        return self.pieces[-1].end

    @property
    def is_whole(self) -> bool:
        """Whether it is the recipe's own, from step 0 to its end."""
        return self.pieces == (Segment(0, self.end),)

    @property
    def is_spent(self) -> bool:
        """Whether it goes on from a rate of 0: no step to come would train anything."""
        last = self.pieces[-1]
        return last.rate == 0 and last.step < last.end

    def rate(self, step: int) -> float:
        """The learning rate of the step that follows `step` full steps.

        The first step has 1/warmup_steps of the peak, not 0; the last step of a run ends its decay.
        """
        return self._rate(self._piece(step), step)

    def anew(self, step: int, end: int) -> Schedule:
        """With the recipe's schedule of `end` steps from step `step` on: the rate jumps there."""
        return self._then(Segment(step, end))

    def continued(self, step: int, end: int) -> Schedule:
        """With the decay from the rate of step `step` on over what is left until `end`, without a jump."""
        last = self._piece(step)
        if last.rate is None and step <= self.training.warmup_steps:
            return self._then(Segment(step, end))  # the warm-up is the same, however long the run
        return self._then(Segment(step, end, self._rate(last, step - 1)))

    def decayed(self, step: int, steps: int) -> Schedule:
        """With a decay over the next `steps`, from the rate of step `step`."""
        return self._then(Segment(step, step + steps, self.rate(step - 1)))

    def _piece(self, step: int) -> Segment:
        """The piece that holds after `step` full steps; a fork has none from before its first step."""
        return next((p for p in reversed(self.pieces) if p.step <= step), self.pieces[0])

    def _then(self, piece: Segment) -> Schedule:
        """Pieces from its step on give way to the new one: the run does not come there by them any more."""
        before = tuple(p for p in self.pieces if p.step < piece.step)
        return replace(self, pieces=(*before, piece))

    def _rate(self, piece: Segment, step: int) -> float:
        peak, low = self.training.learning_rate, self.training.minimum_learning_rate
        warmup = self.training.warmup_steps
        if piece.rate is not None:
            # A branch out of the warm-up may begin below the minimum.
            return self._falling(step, piece.step, piece.end, piece.rate, min(low, piece.rate))
        if step < warmup:
            return peak * (step + 1) / warmup
        return self._falling(step, warmup, piece.end, peak, low)

    def _falling(self, step: int, begin: int, end: int, top: float, low: float) -> float:
        """From `top`, which step `begin` had, to `low` at step `end`."""
        shape: str = self.training.decay
        if shape == "wsd":
            share = self.training.decay_share or DECAY_SHARE
            begin = max(begin, end - max(1, round(share * end)))
            shape = self.training.decay_shape or DECAY_SHAPE
        if step < begin:
            return top
        gone = min(1.0, (step - begin + 1) / max(1, end - begin))
        return low + (top - low) * _SHAPES[shape](gone)


@dataclass(frozen=True)
class AttemptStart:
    """How an attempt set out."""

    step: int
    amendments: int  # how many of the run's rows it knows


def of_run(run: Run, training: Training, ends: Ends, attempt: int) -> Schedule:
    """The schedule by which an attempt trains, `training` being the run's settings with its amendments.

    Raises ConfigError where a run that was done with a rate of 0 would only now learn of its new end.
    """
    rows = amendments.recorded(run)
    found = derive(training, rows, starts(run, attempt), ends, origin(run))
    if found.is_spent:
        step, end = found.pieces[-1].step, found.end
        raise ConfigError(
            f"training.steps={end}: {SPENT.format(step=step)}; python -m jobs.train amend {run.root} "
            f"training.steps={end} --schedule anew lets it jump; or fork an earlier checkpoint"
        )
    return found


def derive(
    training: Training,
    rows: Sequence[Amendment],
    attempts: Sequence[AttemptStart],
    ends: Ends,
    first: Sequence[Segment] = (),
) -> Schedule:
    """The schedule after these attempts; `first` are the pieces that a fork was given.

    What the run's first attempt knew at step 0 is its recipe: rows tell what came after. A row without a
    `schedule` is of a version whose schedule was always that of the whole run.
    """
    known = attempts[0].amendments if attempts and attempts[0].step == 0 and not first else 0
    training = _before(training, rows[known:])
    schedule = Schedule(training, tuple(first) or (Segment(0, ends(training)),))
    for attempt in attempts:
        for at_once in _one_by_one(rows[known : attempt.amendments]):
            training = _with(training, at_once)
            anew = at_once[0].get("schedule", amendments.ANEW) == amendments.ANEW
            schedule = _amended(schedule, attempt.step, ends(training), anew=anew)
        known = attempt.amendments
    return replace(schedule, training=training)


def forked(
    schedule: Schedule, training: Training, step: int, end: int, how: str | None = None
) -> Schedule:
    """The schedule of a fork of a step with other settings.

    It goes on from the rate there, unless `how` is ANEW or another peak or warm-up asks for that. Raises
    ConfigError where CONTINUE would leave such a key without effect.
    """
    old = schedule.training
    anew = [key for key in _ANEW if getattr(old, key) != getattr(training, key)]
    if anew and how == amendments.CONTINUE:
        raise ConfigError(
            f"--schedule continue: goes on from the rate of step {step}, which leaves training.{anew[0]} "
            "without effect; leave one of them out"
        )
    if anew or how == amendments.ANEW:
        return Schedule(training, (Segment(0, end),))
    if end != schedule.end or any(getattr(old, key) != getattr(training, key) for key in _SHAPING):
        schedule = schedule.continued(step, end)
    return replace(schedule, training=training)


def starts(run: Run, newest: int | None = None) -> list[AttemptStart]:
    """How the attempts set out, in order; with `newest` those up to that number."""
    found: list[AttemptStart] = []
    for attempt in run.claimed_attempts():
        if attempt.start.is_file() and (newest is None or attempt.number <= newest):
            start = records.start(attempt)
            known = start.get("amendments", found[-1].amendments if found else 0)
            found.append(AttemptStart(start["from_step"], known))
    return found


def origin(run: Run) -> list[Segment]:
    """The pieces that a fork was given; none where its recipe's schedule holds from step 0."""
    record = read_json(run.origin) if run.origin.is_file() else {}
    return [Segment(**piece) for piece in record.get("schedule", [])]


def record(schedule: Schedule) -> list[dict[str, Any]]:
    """The pieces as JSON."""
    return [asdict(piece) for piece in schedule.pieces]


def _amended(schedule: Schedule, step: int, end: int, *, anew: bool) -> Schedule:
    if anew:
        return schedule.anew(step, end)
    before = tuple(piece for piece in schedule.pieces if piece.step < step)
    if end == schedule.end:
        return schedule
    if before and before[-1].end == end:  # taken back before a step was done by it
        return replace(schedule, pieces=before)
    return schedule.continued(step, end)


def _one_by_one(rows: Sequence[Amendment]) -> Iterator[list[Amendment]]:
    """The amendments of the run's end: the rows of one are of one time."""
    of_the_end = [row for row in rows if row["key"] in amendments.END]
    for _, group in itertools.groupby(of_the_end, key=lambda row: row["time"]):
        yield list(group)


def _before(training: Training, rows: Sequence[Amendment]) -> Training:
    """The settings before these rows."""
    return _with(training, [row | {"new": row["old"]} for row in reversed(rows)])


def _with(training: Training, rows: Sequence[Amendment]) -> Training:
    of_the_end = [row for row in rows if row["key"] in amendments.END]
    return training.model_copy(
        update={row["key"].removeprefix("training."): row["new"] for row in of_the_end}
    )
