"""The stages of the relay, in order."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kit.errors import CheckpointError, EkidenError, InputError, StageError
from kit.store import look

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.cluster.jobs import Job
    from kit.cluster.snapshot import Snapshot
    from kit.config.recipe import Recipe
    from kit.relay.queue_answer import QueueAnswer
    from kit.relay.stage_status import StageStatus
    from kit.store.paths import Run
    from kit.store.units import Survey, Tally, Unit

_RATE_OVER = 20  # steps


@dataclass(frozen=True)
class Stage:
    """A stage, and the module that implements it, imported on first use."""

    name: str
    module: str
    of_run: bool = False  # its units lie in the run directory, not in the workspace
    part_of: str | None = None  # the stage whose command includes this one
    tasks: Callable[[Recipe], int] | None = None  # number of array tasks; None: a single job
    resources: Literal["network", "arrays", "single", "training"] = "single"
    applies: Callable[[Recipe], bool] = lambda _: True

    @property
    def command(self) -> str:
        """The module of jobs/ whose command runs it."""
        return self.part_of or self.name

    def job(self, recipe: Recipe) -> Job:
        """The stage as a job with all its tasks; their number comes from the recipe."""
        from kit.cluster.jobs import Job, WorkOf

        tasks = 1 if self.tasks is None else self.tasks(recipe)
        return Job(self.name, WorkOf(self.module), tasks, self.resources)

    def rest(self, run: Run, recipe: Recipe) -> Job:
        """The same job without tasks whose units are done; valid if no stage before it will run."""
        job = self.job(recipe)
        if job.tasks == 1:
            return job
        units = enumerate(self.units(run, recipe))
        missing = tuple(number for number, unit in units if unit.state() != "done")
        return replace(job, missing=missing or None)

    def units(self, run: Run, recipe: Recipe) -> list[Unit]:
        """The units of the stage.

        Raises StageError or CheckpointError while another stage must run first, InputError if a text
        that was fetched is missing.
        """
        module: Any = importlib.import_module(self.module)
        units: list[Unit] = module.units(run, recipe)
        return units

    def census(self, run: Run, recipe: Recipe, *, verify: bool = False) -> dict[str, int]:
        """Count done, missing, stale and broken units; empty while another stage must run first."""

        from kit.store.units import census

        try:
            return census(self.units(run, recipe), verify=verify)
        except (StageError, CheckpointError):
            return {}

    def survey(self, run: Run, recipe: Recipe, *, verify: bool = False) -> Survey:
        """The same counts with the faults of some units."""
        from kit.store.units import Survey, survey

        try:
            return survey(self.units(run, recipe), verify=verify)
        except (StageError, CheckpointError, InputError) as error:
            return Survey({}, waits=str(error))

    def done(self, run: Run, recipe: Recipe) -> bool:
        """Whether all units are done."""
        counts = self.census(run, recipe)
        return bool(counts.get("done")) and counts["done"] == sum(
            value for key, value in counts.items() if key in ("done", "missing", "stale", "broken")
        )


def _pass_over_corpus(name: str, applies: Callable[[Recipe], bool]) -> Stage:
    """One of the passes that find duplicates or near-duplicates, if the recipe enables them."""
    return Stage(
        name,
        f"kit.corpus.dedup.{name}",
        part_of="preprocess",
        tasks=lambda recipe: recipe.corpus.tasks,
        resources="arrays",
        applies=applies,
    )


def _finds_duplicates(recipe: Recipe) -> bool:
    return recipe.corpus.filters.duplicates


def _finds_near_duplicates(recipe: Recipe) -> bool:
    return recipe.corpus.filters.near_duplicates is not None


DOWNLOAD = Stage(
    "download",
    "kit.corpus.download",
    tasks=lambda recipe: len(recipe.corpus.sources),
    resources="network",
)
TRAIN = Stage("train", "kit.training.attempt", of_run=True, resources="training")
STAGES = (
    DOWNLOAD,
    _pass_over_corpus("fingerprint", _finds_duplicates),
    _pass_over_corpus("deduplicate", _finds_duplicates),
    _pass_over_corpus("signatures", _finds_near_duplicates),
    _pass_over_corpus("bands", _finds_near_duplicates),
    Stage(
        "clusters",
        "kit.corpus.dedup.clusters",
        part_of="preprocess",
        applies=_finds_near_duplicates,
    ),
    Stage(
        "preprocess",
        "kit.corpus.preprocess",
        tasks=lambda recipe: recipe.corpus.tasks,
        resources="arrays",
    ),
    Stage(
        "count",
        "kit.tokenizer.count",
        part_of="tokenizer",
        tasks=lambda recipe: recipe.tokenizer.tasks,
        resources="arrays",
    ),
    Stage("merge", "kit.tokenizer.merge", part_of="tokenizer"),
    Stage(
        "candidates",
        "kit.tokenizer.candidates",
        part_of="tokenizer",
        tasks=lambda recipe: len(recipe.tokenizer.specs()),
    ),
    Stage("tokenizer", "kit.tokenizer.selection"),
    Stage(
        "tokenize",
        "kit.tokenizer.encode",
        tasks=lambda recipe: recipe.tokens.tasks,
        resources="arrays",
    ),
    TRAIN,
    Stage("evaluate", "kit.release.evaluate", of_run=True),
    Stage("export", "kit.release.export", of_run=True),
    Stage("generate", "kit.release.generate", of_run=True),
)


def stages_of(recipe: Recipe, command: str | None = None) -> list[Stage]:
    """The stages of a recipe, in order; with `command`, those that it runs."""
    return [s for s in STAGES if s.applies(recipe) and command in (None, s.command)]


def tally(run: Run, recipe: Recipe, name: str) -> Tally | None:
    """A counter over the units of a stage that is running; None if its units cannot be listed."""
    from kit.store.units import Tally

    (stage,) = (stage for stage in STAGES if stage.name == name)
    try:
        return Tally(stage.units(run, recipe))
    except EkidenError:
        return None


def stage_statuses(
    snapshot: Snapshot,
    recipe: Recipe,
    command: str | None = None,
    *,
    verify: bool = False,
    queue: QueueAnswer | None = None,
) -> list[StageStatus]:
    """The status of all stages, or with `command` up to its last; `verify` reads every byte of those.

    `queue` is Slurm's answer, if the caller has one.
    """
    from kit.relay import job_status, stage_status

    selected = stages_of(recipe, command)
    stages = stages_of(recipe)
    with look.once():
        surveys = {
            stage.name: stage.survey(snapshot.run, recipe, verify=verify and stage in selected)
            for stage in stages[: stages.index(selected[-1]) + 1]
        }
    return stage_status.of_chain(job_status.read(snapshot, queue), surveys)


def training(snapshot: Snapshot, recipe: Recipe) -> dict[str, Any]:
    """The progress of training: attempts, last step, total steps, step of the last checkpoint, loss.

    Also the median tokens per second of the last `_RATE_OVER` steps, the Unix time of the last step, and
    where and why the run ceased to be bit-equal to an uninterrupted one.
    """
    import statistics

    from kit.data import tokens
    from kit.tracking import inexact

    last = snapshot.recent[-1] if snapshot.recent else None
    rates = [
        rate for row in snapshot.recent[-_RATE_OVER:] if (rate := row.get("tokens_per_second"))
    ]
    try:
        total = tokens.steps_over(recipe)
    except EkidenError:  # it depends on tokens that do not exist yet
        total = None
    return {
        "attempts": len(snapshot.begun),
        "step": last["step"] if last else 0,
        "steps": total,
        "saved": snapshot.saved,
        "loss": last["loss"] if last else None,
        "tokens_per_second": statistics.median(rates) if rates else None,
        "last_step": last["time"] if last else None,
        "inexact": inexact.attempts(row for one in snapshot.begun for row in one.rows.events[:1]),
    }
