"""Checks at submission for problems that would make jobs fail later: the cheap and certain ones.

submit_checks.check(project, jobs)    # raises ConfigError, a line for each problem
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import scheduler
from kit.config.devices import ACCELERATORS, BF16_CAPABILITY
from kit.data import shards, tokens
from kit.errors import ConfigError, StageError
from kit.output import program
from kit.plan import fit, shape
from kit.relay import trainable
from kit.relay.trainable import refused
from kit.release.tasks import tasks_of
from kit.run import begun, directory
from kit.store import records
from kit.store.mounts import mount_of
from kit.tracking import ledger
from kit.tracking.mlflow import address
from kit.training import batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kit.cluster.jobs import Job
    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.config.run import Project
    from kit.store.paths import Run

_READERS = (  # kinds of sources that need a package, and the stages that read them
    ("wikipedia", "wikiextractor", ("fingerprint", "signatures", "preprocess")),
    ("parquet", "pyarrow", ("download", "fingerprint", "signatures", "preprocess")),
)
_BYTES_PER_PARAMETER = 12  # of a checkpoint, at least: weight and two moments in fp32


def check(project: Project, jobs: Sequence[Job]) -> None:
    """Raise ConfigError with a line for each reason why the jobs of a run would fail."""
    recipe, cluster = project.recipe, project.cluster
    problems = [
        *scheduler.for_cluster(cluster).problems(cluster, jobs),
        *_of_environment(cluster),
        *(
            _of_packages(recipe, jobs) if cluster.container is None else ()
        ),  # it has its own packages
        *_of_base_model(project, jobs),
        *(_of_tasks(recipe, jobs) if cluster.container is None else ()),
    ]
    if any(job.resources == "training" for job in jobs):
        problems += [*_of_training(project.run, recipe, cluster), *_of_memory(project)]
    if problems:
        raise ConfigError(*problems)


def little_room(project: Project) -> str | None:
    """A warning if the disk has no space for the checkpoints of a new run, by a low estimate."""
    if _is_under_way(project.run):
        return None
    recipe = project.recipe
    keep = recipe.training.keep + 1  # one more while it is written
    parameters = shape.parameters(recipe)
    needed, folder = keep * parameters * _BYTES_PER_PARAMETER, _nearest(Path(recipe.workspace))
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"{folder}: {free / 1e9:,.1f} GB free, and {keep} checkpoints need {needed / 1e9:,.1f} GB or "
        "more; free some space, or lower training.keep"
    )


def tight_memory(project: Project) -> list[str]:
    """Warnings if the memory of a GPU or of a node is too small by an estimate that may be too high."""
    if project.run.attempts.is_dir():
        return []  # it has shown that it fits
    rehearses = directory.is_rehearsal(project.run)  # which shows whether it fits
    misfits = fit.misfits(project.recipe, project.cluster)
    return [str(misfit) for misfit in misfits if rehearses or not misfit.certain]


def shared_sqlite(project: Project, mounts: str | None = None) -> str | None:
    """A warning if MLflow's sqlite file lies where the locks that it needs do not reach other hosts.

    `mounts` as in `mount_of`.
    """
    tracking = project.recipe.tracking
    file = address.sqlite_file(project.recipe) if tracking.mlflow else None
    if file is None or tracking.mlflow_by != "job" or project.cluster.is_this_machine:
        return None
    mount = mount_of(file, mounts)
    if not mount.is_shared:
        return None
    return (
        f"{file}: on {mount.kind}, where two hosts that write it at once destroy it; publish to a server "
        f"(tracking.mlflow=http://HOST:5000, see {program.command('watch', 'mlflow')}), or by one host: "
        f"tracking.mlflow_by=sync and {program.command('watch', 'sync')}"
    )


def _of_environment(cluster: Cluster) -> Iterator[str]:
    """Variables that jobs take from the environment of this command, which lacks them."""
    for name in cluster.passed_variables:
        if name not in os.environ:
            yield (
                f"cluster.environment.{name}=null takes it from your environment, where it is not set; "
                f"export {name}, or remove the key"
            )


def _of_packages(recipe: Recipe, jobs: Sequence[Job]) -> Iterator[str]:
    """Problems of packages that some recipes need and that are not installed."""
    yield from _of_corpus(recipe, jobs)
    exporting = any(job.name == "export" for job in jobs)
    if exporting and recipe.release.gguf and importlib.util.find_spec("gguf") is None:
        kinds = ",".join(recipe.release.gguf)
        yield f"release.gguf=[{kinds}]: gguf is not installed; pip install 'ekiden[gguf]'"


def _of_corpus(recipe: Recipe, jobs: Sequence[Job]) -> Iterator[str]:
    """Problems of sources whose reader is not installed, and of filters that cannot be made."""
    for kind, package, readers in _READERS:
        names = [name for name, source in recipe.corpus.sources.items() if source.kind == kind]
        reading = any(job.name in readers for job in jobs)
        if names and reading and importlib.util.find_spec(package) is None:
            yield (
                f"corpus.sources.{names[0]}.kind={kind}: {package} is not installed; "
                f"pip install 'ekiden[{kind}]'"
            )
    if any(job.name == "preprocess" for job in jobs):
        yield from refused(lambda: _make_filters(recipe))


def _make_filters(recipe: Recipe) -> None:
    """Make the filters that depend on files and packages."""
    from kit.corpus.exclusion import Exclusion
    from kit.corpus.filters import words

    words.checks(recipe.corpus.filters)
    Exclusion(recipe.corpus, next(iter(recipe.corpus.sources)))


def _of_base_model(project: Project, jobs: Sequence[Job]) -> Iterator[str]:
    """The model card names a base model for a fork only."""
    if any(job.name == "export" for job in jobs):
        try:
            begun.refuse_base_model(project.run, project.recipe)
        except ConfigError as error:
            yield str(error)


def _of_tasks(recipe: Recipe, jobs: Sequence[Job]) -> Iterator[str]:
    """Problems of the tasks to score: their package, their files and data."""
    if any(job.name == "evaluate" for job in jobs):
        yield from refused(lambda: tasks_of(recipe.release))


def _of_training(run: Run, recipe: Recipe, cluster: Cluster) -> Iterator[str]:
    training = recipe.training
    own = cluster.container is not None
    yield from trainable.problems(recipe, cluster, begun=run.begun, here=not own)
    yield from refused(lambda: [records.start(attempt) for attempt in ledger.attempts(run)])
    compiler = os.environ.get("CXX", "g++")  # as torch's Inductor chooses it for a CPU
    on_this_cpu = cluster.is_this_machine and cluster.device == "cpu"
    if training.compile and on_this_cpu and shutil.which(compiler) is None:
        yield f"training.compile=true: no {compiler} on the PATH; install it, or remove compile"
    steps = training.steps
    try:
        data = tokens.complete(recipe)
        row, held_out = (tokens.open_part(data, part, recipe) for part in shards.PARTS)
    except StageError:  # not made yet
        pass
    else:
        length = recipe.model.n_positions
        yield from refused(lambda: batches.check_blocks(row, length))
        yield from refused(lambda: batches.validation_blocks(recipe, held_out))
        steps = training.steps_over(row.blocks(length))
    if steps is not None and training.warmup_steps > steps and not _is_under_way(run):
        yield (
            f"training.warmup_steps={training.warmup_steps}: the run ends before the warm-up does, at step "
            f"{steps}; lower it, or raise training.{'epochs' if training.steps is None else 'steps'}"
        )


def _of_memory(project: Project) -> Iterator[str]:
    """Problems of memory and precision on the GPUs and nodes of the cluster file."""
    recipe, cluster, run = project.recipe, project.cluster, project.run
    name = cluster.training.accelerator if cluster.device == "cuda" else None
    if recipe.training.precision == "bf16" and name is not None:
        capability = ACCELERATORS[name].capability
        if capability < BF16_CAPABILITY:
            yield (
                f"training.precision=bf16: {name} has no bf16 (compute capability {capability}); set it to "
                "auto, which is fp16 there"
            )
    if not (run.attempts.is_dir() or directory.is_rehearsal(run)):
        yield from (str(one) for one in fit.misfits(recipe, cluster) if one.certain)


def _is_under_way(run: Run) -> bool:
    """Whether the run has started and so keeps its schedule, or is a rehearsal, which has none."""
    return run.begun or directory.is_rehearsal(run)


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest parent that exists."""

    return next(path for path in (folder, *folder.parents) if path.is_dir())
