"""The stages of the relay, in order: what each command and `jobs.pipeline` are made of."""

from __future__ import annotations

import importlib
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kit.errors import CheckpointError, EkidenError, InputError, StageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.cluster.jobs import Job
    from kit.config.recipe import Recipe
    from kit.relay.snapshot import Snapshot
    from kit.relay.stage_status import StageStatus
    from kit.store.paths import Run
    from kit.store.units import Survey, Tally, Unit

_RATE_OVER = 20  # steps


@dataclass(frozen=True)
class Stage:
    """A stage, and the module of the kit that does it; imported when it is needed."""

    name: str
    module: str
    of_run: bool = False  # its units lie in the run directory, not in the workspace
    part_of: str | None = None  # the stage whose command does this one as well
    tasks: Callable[[Recipe], int] | None = None  # of an array
    resources: Literal["network", "arrays", "single", "training"] = "single"
    applies: Callable[[Recipe], bool] = lambda _: True

    @property
    def command(self) -> str:
        """The module of jobs that does it."""
        return self.part_of or self.name

    def job(self, recipe: Recipe) -> Job:
        """The stage as a job. The number of tasks is a figure of the recipe."""
        from kit.cluster.jobs import Job

        work = importlib.import_module(self.module).work
        tasks = 1 if self.tasks is None else self.tasks(recipe)
        return Job(self.name, work, tasks, self.resources)

    def rest(self, run: Run, recipe: Recipe) -> Job:
        """The same job, without tasks whose units are done: where nothing before it is made anew."""
        job = self.job(recipe)
        if job.tasks == 1:
            return job
        states = [unit.state() for unit in self.units(run, recipe)]
        needed = {i % job.tasks for i, state in enumerate(states) if state != "done"}
        return replace(job, needed=tuple(sorted(needed)) or None)

    def units(self, run: Run, recipe: Recipe) -> list[Unit]:
        """The units of the stage. Raises StageError or CheckpointError while it waits for another.

        Raises InputError where a text at hand is gone.
        """
        module: Any = importlib.import_module(self.module)
        found: list[Unit] = module.units(run, recipe)
        return found

    def census(self, run: Run, recipe: Recipe, *, verify: bool = False) -> dict[str, int]:
        """How many units are done, missing, stale, broken; empty while it waits for another stage."""
        from kit.store.units import census

        try:
            return census(self.units(run, recipe), verify=verify)
        except (StageError, CheckpointError):
            return {}

    def survey(self, run: Run, recipe: Recipe, *, verify: bool = False) -> Survey:
        """The same, with what is wrong with some units, and why."""
        from kit.store.units import Survey, survey

        try:
            return survey(self.units(run, recipe), verify=verify)
        except (StageError, CheckpointError, InputError) as error:
            return Survey({}, waits=str(error))

    def done(self, run: Run, recipe: Recipe) -> bool:
        """Whether nothing is left to do."""
        counts = self.census(run, recipe)
        return bool(counts.get("done")) and counts["done"] == sum(
            value for key, value in counts.items() if key in ("done", "missing", "stale", "broken")
        )


def _pass_over_corpus(name: str) -> Stage:
    """One of the two passes that find duplicates, where the recipe asks for that."""
    return Stage(
        name,
        f"kit.corpus.dedup.{name}",
        part_of="preprocess",
        tasks=lambda recipe: recipe.corpus.tasks,
        resources="arrays",
        applies=lambda recipe: recipe.corpus.filters.duplicates,
    )


TRAIN = Stage("train", "kit.training.attempt", of_run=True, resources="training")
STAGES = (
    Stage(
        "download",
        "kit.corpus.download",
        tasks=lambda recipe: len(recipe.corpus.sources),
        resources="network",
    ),
    _pass_over_corpus("fingerprint"),
    _pass_over_corpus("deduplicate"),
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
    """The stages of a recipe, in order; with a command: those that it does."""
    return [s for s in STAGES if s.applies(recipe) and command in (None, s.command)]


def tally(run: Run, recipe: Recipe, name: str) -> Tally | None:
    """The units of a stage, to be counted while others make them; None where its tasks say why not."""
    from kit.store.units import Tally

    (found,) = (stage for stage in STAGES if stage.name == name)
    try:
        return Tally(found.units(run, recipe))
    except EkidenError:
        return None


def standings(
    seen: Snapshot, recipe: Recipe, command: str | None = None, *, verify: bool = False
) -> list[StageStatus]:
    """Where the stages stand, with a command up to its last one. `verify` reads every byte of its own."""
    from kit.relay import job_status, stage_status

    asked = stages_of(recipe, command)
    stages = stages_of(recipe)
    surveys = {
        one.name: one.survey(seen.run, recipe, verify=verify and one in asked)
        for one in stages[: stages.index(asked[-1]) + 1]
    }
    return stage_status.of_chain(job_status.read(seen), surveys)


def training(seen: Snapshot, recipe: Recipe) -> dict[str, Any]:
    """How far training is: attempts, the last step, of how many, saved up to which; loss, median tokens a
    second of the last `_RATE_OVER` steps, Unix time of the last one.
    """
    from kit.data import tokens

    steps = seen.steps
    last = steps[-1] if steps else None
    rates = [rate for row in steps[-_RATE_OVER:] if (rate := row.get("tokens_per_second"))]
    try:
        total = tokens.steps_over(recipe)
    except EkidenError:  # it depends on tokens that are not made yet
        total = None
    return {
        "attempts": len(seen.begun),
        "step": last["step"] if last else 0,
        "steps": total,
        "saved": seen.saved,
        "loss": last["loss"] if last else None,
        "tokens_per_second": statistics.median(rates) if rates else None,
        "last_step": last["time"] if last else None,
    }
