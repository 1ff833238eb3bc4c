"""The source of a release: the last checkpoint, or the checkpoint of one step.

source = source_of(run)              # a run directory, or that of a checkpoint's job
source.checkpoint, source.place      # weights; folders for scores, samples and export
source.moment                        # progress of training, for a checkpoint's job
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
    """The progress of training at the checkpoint of a step."""

    step: int
    steps: int  # of the whole run, according to its recipe at that time
    tokens: int  # seen so far
    learning_rate: float | None  # of that step; None if the ledger has no row for it

    @property
    def finished(self) -> bool:
        """Whether it was the last step."""
        return self.step >= self.steps

    @property
    def words(self) -> str:
        """The progress as a sentence."""
        if self.finished:
            return f"training was finished: step {self.step:,} of {self.steps:,}"
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:.3g}"
        return (
            f"training was not finished: step {self.step:,} of {self.steps:,}, "
            f"{self.tokens:,} tokens seen{rate}"
        )

    def facts(self) -> dict[str, Any]:
        """The progress as plain values, for JSON."""
        return asdict(self) | {"finished": self.finished, "note": self.words}


@dataclass(frozen=True)
class ReleaseSource:
    """Weights, the run that trained them, and the folders for results."""

    run: Run
    checkpoint: Checkpoint
    place: Run | AtStep
    moment: Moment | None = None  # None: the end of the run

    def curve(self) -> list[CurveRow]:
        """The run's canonical ledger up to the checkpoint."""
        curve = ledger.canonical(self.run)
        if self.moment is None:
            return curve
        return [row for row in curve if row["step"] <= self.checkpoint.step]

    def attempts(self) -> int:
        """The number of attempts up to the checkpoint."""
        attempts = ledger.attempts(self.run)
        if self.moment is None:
            return len(attempts)
        return sum(attempt.number <= self.checkpoint.attempt for attempt in attempts)


def source_of(run: Run) -> ReleaseSource:
    """The source of a release. Raises CheckpointError if there is no checkpoint (yet)."""
    place = run.job_at
    if place is None:
        return ReleaseSource(run, checkpoint.final(run, "jobs.train"), run)
    if (linked := linked_checkpoint(run)) is None:
        raise CheckpointError(f"{run.root}: has no checkpoint; give its --step {place.step} again")
    return ReleaseSource(place.run, linked, place, moment(run))


def linked_checkpoint(job: Run) -> Checkpoint | None:
    """The checkpoint linked into the directory of a checkpoint's job; its record outlives its files."""
    return next(iter(checkpoint.committed(job)), None)


def remove_links(job: Run) -> None:
    """Remove the checkpoint files of a checkpoint's job, which no longer needs them."""
    if job.job_at is not None and (linked := linked_checkpoint(job)) is not None:
        shutil.rmtree(linked.state, ignore_errors=True)


def moment(job: Run) -> Moment:
    """The progress of training, recorded when the checkpoint was linked into the job's directory."""
    record = read_json(job.moment)
    return Moment(**{name: record[name] for name in Moment.__dataclass_fields__})


def moment_of(run: Run, recipe: Recipe, step: int) -> Moment:
    """The progress of a run at a step. Raises StageError if the recipe's epochs count missing tokens."""
    rows = ledger.canonical(run, step - 1)
    rates = [row["learning_rate"] for row in rows if row["kind"] == "step" and row["step"] == step]
    return Moment(
        step,
        tokens.steps_over(recipe),
        step * recipe.training.global_batch * recipe.model.n_positions,
        rates[0] if rates else None,
    )


def require_files(source: ReleaseSource) -> None:
    """Raise CheckpointError if the files of the checkpoint are damaged."""
    problem = source.checkpoint.problem()
    if problem is None:
        return
    remedy = "remove it to use the previous one" if source.moment is None else "give another --step"
    raise CheckpointError(f"{source.checkpoint.folder}: {problem}; {remedy}")
