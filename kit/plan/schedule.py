"""The learning rate schedule: warm-up and decay, in segments if the run's end was amended.

    rates = schedule.for_run(run, recipe.training, ends, attempt.number)
    rates.rate(200)  # of step 201

The rate is a function of the step and of the records: the recipe, `amendments.jsonl`, `fork.json` and the
`start.json` of every attempt. An amendment takes effect at the first step of the first attempt that knows
it. That step is written once: attempts that restart there or from an earlier checkpoint, or roll back, get
the same segments, and a step has the same rate in every attempt.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kit.config import amendments
from kit.errors import ConfigError
from kit.output import program
from kit.store import records
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.config.amendments import Amendment
    from kit.config.recipe import Training
    from kit.store.paths import Run

    Ends = Callable[[Training], int]  # the last step of a run with these settings

# Defaults for `decay: wsd`. MiniCPM (arXiv 2404.06395) finds a decay over 10% of the steps enough; of the
# shapes of Hägele et al. (arXiv 2405.18392), 1-sqrt ends with the lowest loss.
DECAY_SHARE = 0.1
DECAY_SHAPE = "1-sqrt"
# The share of the rate that is left after a share `gone` of the decay.
_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda gone: 1.0,  # noqa: ARG005
    "linear": lambda gone: 1.0 - gone,
    "cosine": lambda gone: 0.5 * (1.0 + math.cos(math.pi * gone)),
    "1-sqrt": lambda gone: 1.0 - math.sqrt(gone),
}
SPENT = "the learning rate reached 0 at step {step}, and further steps would train nothing"
# In a fork, these ask for a new curve from step 0; with the others it continues from its current rate.
_NEW_CURVE = ("learning_rate", "warmup_steps")
_SHAPING = ("minimum_learning_rate", "decay", "decay_share", "decay_shape")


@dataclass(frozen=True)
class Segment:
    """A part of a schedule, from the step after `step` until the next segment begins."""

    step: int  # full steps done when it begins
    end: int  # the last step of the run, as known at that time
    rate: float | None = None  # of step `step`, to continue from; None: the recipe's, from step 0


@dataclass(frozen=True)
class Schedule:
    """The settings of a run, and the segments made by changes of its end, in order of their steps."""

    training: Training
    segments: tuple[Segment, ...]

    @property
    def end(self) -> int:
        """The last step of the run."""
        return self.segments[-1].end

    @property
    def is_whole(self) -> bool:
        """Whether it is the recipe's schedule, unchanged from step 0 to the end."""
        return self.segments == (Segment(0, self.end),)

    @property
    def is_spent(self) -> bool:
        """Whether it continues from a rate of 0: further steps would train nothing."""
        last = self.segments[-1]
        return last.rate == 0 and last.step < last.end

    def rate(self, step: int) -> float:
        """The learning rate of the step that follows `step` full steps.

        The first step has 1/warmup_steps of the peak, not 0; the last step of a run ends its decay.
        """
        return self._rate(self._segment(step), step)

    def restarted(self, step: int, end: int) -> Schedule:
        """Follow the recipe's schedule of `end` steps from step `step` on: the rate jumps there."""
        return self._with_segment(Segment(step, end))

    def continued(self, step: int, end: int) -> Schedule:
        """Decay from the rate of step `step` over the steps left until `end`, without a jump."""
        last = self._segment(step)
        if last.rate is None and step <= self.training.warmup_steps:
            return self._with_segment(Segment(step, end))  # the warm-up does not depend on the end
        return self._with_segment(Segment(step, end, self._rate(last, step - 1)))

    def decayed(self, step: int, steps: int) -> Schedule:
        """Decay over the next `steps` steps, from the rate of step `step`."""
        return self._with_segment(Segment(step, step + steps, self.rate(step - 1)))

    def _segment(self, step: int) -> Segment:
        """The segment in force after `step` full steps; before the first step of a fork, its first."""
        return next((s for s in reversed(self.segments) if s.step <= step), self.segments[0])

    def _with_segment(self, segment: Segment) -> Schedule:
        """Replace all segments from its step on: the run will not reach them any more."""
        before = tuple(s for s in self.segments if s.step < segment.step)
        return replace(self, segments=(*before, segment))

    def _rate(self, segment: Segment, step: int) -> float:
        peak, low = self.training.learning_rate, self.training.minimum_learning_rate
        warmup = self.training.warmup_steps
        if segment.rate is not None:
            # A fork during the warm-up may begin below the minimum.
            low = min(low, segment.rate)
            return self._decay(step, segment.step, segment.end, segment.rate, low)
        if step < warmup:
            return peak * (step + 1) / warmup
        return self._decay(step, warmup, segment.end, peak, low)

    def _decay(self, step: int, begin: int, end: int, top: float, low: float) -> float:
        """The rate on the way from `top`, at step `begin`, to `low` at step `end`."""
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
    """The first step of an attempt, and the amendments it knows."""

    step: int
    amendments: int  # number of the run's rows


def check(training: Training) -> None:
    """Raise ConfigError for a decay that would rise."""
    low, peak = training.minimum_learning_rate, training.learning_rate
    if low > peak and training.decay != "constant":
        raise ConfigError(
            f"training.minimum_learning_rate={low:g}: above training.learning_rate={peak:g}, so the "
            "learning rate would rise where it should decay; lower it"
        )


def for_run(run: Run, training: Training, ends: Ends, attempt: int) -> Schedule:
    """The schedule of an attempt; `training` are the run's settings, with its amendments.

    Raises ConfigError if the run has already ended at a rate of 0, and only now gets a later end.
    """
    rows = amendments.read(run)
    schedule = derive(training, rows, starts(run, attempt), ends, origin(run))
    if schedule.is_spent:
        step, end = schedule.segments[-1].step, schedule.end
        change = (f"training.steps={end}", "--schedule", amendments.ANEW)
        raise ConfigError(
            f"{change[0]}: {SPENT.format(step=step)}; let the rate jump with "
            f"`{program.command('train', 'amend', run.root, *change)}`, or fork an earlier checkpoint"
        )
    return schedule


def derive(
    training: Training,
    rows: Sequence[Amendment],
    attempts: Sequence[AttemptStart],
    ends: Ends,
    first: Sequence[Segment] = (),
) -> Schedule:
    """The schedule after these attempts; `first` are the initial segments of a fork.

    Amendments known to the first attempt at step 0 count as part of the recipe. A row without a `schedule`
    was written by a version that always followed the schedule of the whole run.
    """
    applied = attempts[0].amendments if attempts and attempts[0].step == 0 and not first else 0
    training = _before(training, rows[applied:])
    schedule = Schedule(training, tuple(first) or (Segment(0, ends(training)),))
    for attempt in attempts:
        for group in _by_amendment(rows[applied : attempt.amendments]):
            training = _with(training, group)
            restart = group[0].get("schedule", amendments.ANEW) == amendments.ANEW
            schedule = _amended(schedule, attempt.step, ends(training), restart=restart)
        applied = attempt.amendments
    return replace(schedule, training=training)


def forked(
    schedule: Schedule, training: Training, step: int, end: int, how: str | None = None
) -> Schedule:
    """The schedule of a fork at a step, with other settings.

    It continues from the rate there, unless `how` is `ANEW` or the peak or warm-up has changed. Raises
    ConfigError if CONTINUE would leave such a change without effect.
    """
    old = schedule.training
    changed = [key for key in _NEW_CURVE if getattr(old, key) != getattr(training, key)]
    if changed and how == amendments.CONTINUE:
        raise ConfigError(
            f"--schedule continue: continues from the rate of step {step}, which leaves training."
            f"{changed[0]} without effect; leave one of them out"
        )
    if changed or how == amendments.ANEW:
        return Schedule(training, (Segment(0, end),))
    if end != schedule.end or any(getattr(old, key) != getattr(training, key) for key in _SHAPING):
        schedule = schedule.continued(step, end)
    return replace(schedule, training=training)


def starts(run: Run, newest: int | None = None) -> list[AttemptStart]:
    """The starts of the attempts, in order; with `newest` only up to that number."""
    attempts: list[AttemptStart] = []
    for attempt in run.claimed_attempts():
        if attempt.start.is_file() and (newest is None or attempt.number <= newest):
            start = records.start(attempt)
            previous = attempts[-1].amendments if attempts else 0
            attempts.append(AttemptStart(start["from_step"], start.get("amendments", previous)))
    return attempts


def origin(run: Run) -> list[Segment]:
    """The initial segments of a fork; empty if it follows its recipe's schedule from step 0."""
    record = read_json(run.origin) if run.origin.is_file() else {}
    return [Segment(**segment) for segment in record.get("schedule", [])]


def record(schedule: Schedule) -> list[dict[str, Any]]:
    """The segments as JSON."""
    return [asdict(segment) for segment in schedule.segments]


def _amended(schedule: Schedule, step: int, end: int, *, restart: bool) -> Schedule:
    if restart:
        return schedule.restarted(step, end)
    before = tuple(segment for segment in schedule.segments if segment.step < step)
    if end == schedule.end:
        return schedule
    if before and before[-1].end == end:  # revoked before any step followed it
        return replace(schedule, segments=before)
    return schedule.continued(step, end)


def _by_amendment(rows: Sequence[Amendment]) -> Iterator[list[Amendment]]:
    """The rows about the run's end, grouped by amendment: rows of one have the same time."""
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
