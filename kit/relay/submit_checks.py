"""What jobs would find out when they run, found out when they are submitted: what is cheap and certain.

foresight.check(project, jobs)    # raises ConfigError, a line for each problem
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import scheduler
from kit.data import shards, tokens
from kit.errors import ConfigError, EkidenError, StageError
from kit.run import directory
from kit.training import batches, zero

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.store.paths import Run

_STATE = 12  # bytes of a parameter in a checkpoint at least: weight and two moments in fp32


def check(project: Project, jobs: Sequence[Job]) -> None:
    """Raises ConfigError with a line for each reason why the jobs of a run would fail."""
    recipe, cluster = project.recipe, project.cluster
    problems = [
        *scheduler.of(cluster).problems(cluster, jobs),
        *_of_corpus(recipe, jobs),
        *_of_prompts(recipe, jobs),
    ]
    if any(job.resources == "training" for job in jobs):
        problems += _of_training(project.run, recipe, cluster)
    if problems:
        raise ConfigError(*problems)


def little_room(project: Project) -> str | None:
    """A line where the disk has no room for the checkpoints of a run to come, by a low estimate."""
    if _is_under_way(project.run):
        return None
    recipe = project.recipe
    model, keep = recipe.model, recipe.training.keep + 1  # one is written while the others stand
    blocks = 12 * model.n_layer * model.n_embd**2  # attention 4, feed-forward 8
    parameters = blocks + recipe.tokenizer.vocab_size * model.n_embd
    needed, folder = keep * parameters * _STATE, _nearest(Path(recipe.workspace))
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"{folder}: {free / 1e9:,.1f} GB are free, and {keep} checkpoints take {needed / 1e9:,.1f} GB or "
        "more; make room, or lower training.keep"
    )


def _of_corpus(recipe: Recipe, jobs: Sequence[Job]) -> Iterator[str]:
    """A dump, and nothing that reads it."""
    dumps = [name for name, one in recipe.corpus.sources.items() if one.kind == "wikipedia"]
    reading = any(job.name in ("fingerprint", "preprocess") for job in jobs)
    if dumps and reading and importlib.util.find_spec("wikiextractor") is None:
        yield (
            f"corpus.sources.{dumps[0]}.kind=wikipedia: wikiextractor is not installed; "
            "pip install 'ekiden[wikipedia]'"
        )


def _of_prompts(recipe: Recipe, jobs: Sequence[Job]) -> Iterator[str]:
    """Prompts that are no text."""
    for number, prompt in enumerate(recipe.release.prompts):
        if any(job.name == "generate" for job in jobs) and not prompt.strip():
            yield f"release.prompts.{number}={prompt!r}: is empty; write a prompt, or leave it out"


def _of_training(run: Run, recipe: Recipe, cluster: Cluster) -> Iterator[str]:
    training = recipe.training
    yield from _refused(lambda: batches.check_shares(training, cluster.training.ranks))
    yield from _refused(lambda: zero.check(training))
    compiler = os.environ.get("CXX", "g++")  # what torch's Inductor takes for a CPU
    here = cluster.is_this_machine and cluster.device == "cpu"
    if training.compile and here and shutil.which(compiler) is None:
        yield f"training.compile=true: no {compiler} on the PATH; install it, or leave compile out"
    steps = training.steps
    try:
        data = tokens.complete(recipe)
        row, held_out = (tokens.open_part(data, part, recipe) for part in shards.PARTS)
    except StageError:  # they are still to be made
        pass
    else:
        length = recipe.model.n_positions
        yield from _refused(lambda: batches.check_blocks(row, length))
        yield from _refused(lambda: batches.validation_blocks(recipe, held_out))
        steps = training.steps_over(row.blocks(length))
    if steps is not None and training.warmup_steps > steps and not _is_under_way(run):
        yield (
            f"training.warmup_steps={training.warmup_steps}: the run ends before, at step {steps}; lower "
            f"it, or raise training.{'epochs' if training.steps is None else 'steps'}"
        )


def _refused(what: Callable[[], object]) -> Iterator[str]:
    """The mistake that a check of the job itself raises."""
    try:
        what()
    except EkidenError as mistake:
        yield str(mistake)


def _is_under_way(run: Run) -> bool:
    """Whether the run has begun, and keeps the schedule it has, or is a rehearsal, which has none."""
    return run.begun or directory.is_rehearsal(run)


def _nearest(folder: Path) -> Path:
    """The folder itself, or the one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
