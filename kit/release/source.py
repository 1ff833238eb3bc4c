"""What a release is made from, and where it goes: the last checkpoint, or that of one step.

source = of(run)                     # of a run directory, or of a job's beside the training
source.checkpoint, source.place      # weights; folders for scores, samples and export
source.moment                        # how far training had come, where it was not finished
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kit.data import tokens
from kit.errors import CheckpointError
from kit.store.files import read_json
from kit.tracking import ledger
from kit.training import checkpoint

if TYPE_CHECKING:
    from kit.config.recipe import Recipe
    from kit.store.paths import AtStep, Run
    from kit.tracking.rows import CurveRow
    from kit.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Moment:
    """How far the training of a run had come with the checkpoint of a step."""

    step: int
    steps: int  # of the whole run, as its recipe said when the checkpoint was taken up
    tokens: int  # seen until then
    learning_rate: float | None  # of that step; None where the ledger has no row of it

    @property
    def finished(self) -> bool:
        """Whether it was the last step."""
        return self.step >= self.steps

    @property
    def words(self) -> str:
        """It in a sentence's words."""
        if self.finished:
            return f"training was finished: step {self.step:,} of {self.steps:,}"
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:.3g}"
        return (
            f"training was not finished: step {self.step:,} of {self.steps:,}, "
            f"{self.tokens:,} tokens seen{rate}"
        )

    def facts(self) -> dict[str, Any]:
        """It as JSON has it."""
        return asdict(self) | {"finished": self.finished, "note": self.words}


@dataclass(frozen=True)
class ReleaseSource:
    """Weights, the run whose ledger tells their story, and where to put what is made of them."""

    run: Run
    checkpoint: Checkpoint
    place: Run | AtStep
    moment: Moment | None = None  # None: the run as it ended

    def curve(self) -> list[CurveRow]:
        """The run's canonical ledger up to the checkpoint."""
        curve = ledger.canonical(self.run)
        if self.moment is None:
            return curve
        return [row for row in curve if row["step"] <= self.checkpoint.step]

    def attempts(self) -> int:
        """How many attempts it took to come there."""
        made = ledger.attempts(self.run)
        if self.moment is None:
            return len(made)
        return sum(attempt.number <= self.checkpoint.attempt for attempt in made)


def of(run: Run) -> ReleaseSource:
    """The source of a release. Raises CheckpointError where there is no checkpoint (yet)."""
    place = run.job_at
    if place is None:
        return ReleaseSource(run, checkpoint.final(run, "jobs.train"), run)
    if (held := given(run)) is None:
        raise CheckpointError(f"{run.root}: has no checkpoint; give its --step {place.step} again")
    return ReleaseSource(place.run, held, place, moment(run))


def given(job: Run) -> Checkpoint | None:
    """The checkpoint that a job beside the training was given: its record stays when its files go."""
    return next(iter(checkpoint.committed(job)), None)


def let_go(job: Run) -> None:
    """Remove the files that a job beside the training was given, as they are not needed any more."""
    if job.job_at is not None and (held := given(job)) is not None:
        shutil.rmtree(held.state, ignore_errors=True)


def moment(job: Run) -> Moment:
    """How far training had come, as it was noted when the job was given the checkpoint."""
    found = read_json(job.moment)
    return Moment(**{name: found[name] for name in Moment.__dataclass_fields__})


def moment_of(run: Run, recipe: Recipe, step: int) -> Moment:
    """How far a run had come with a step. Raises StageError where epochs count tokens that are gone."""
    rows = ledger.canonical(run, step - 1)
    rates = [row["learning_rate"] for row in rows if row["kind"] == "step" and row["step"] == step]
    return Moment(
        step,
        tokens.steps_over(recipe),
        step * recipe.training.global_batch * recipe.model.n_positions,
        rates[0] if rates else None,
    )


def require_files(source: ReleaseSource) -> None:
    """Raises CheckpointError where the checkpoint's bytes are not those that were written."""
    problem = source.checkpoint.problem()
    if problem is None:
        return
    way = (
        "remove it, and the one before is used" if source.moment is None else "take another --step"
    )
    raise CheckpointError(f"{source.checkpoint.folder}: {problem}; {way}")
