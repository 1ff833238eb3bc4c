"""Scores, samples and exports of a kept checkpoint, while the training of its run goes on.

    run("evaluate", project, 500, print)       # here and now
    submit("generate", project, 500, print)    # to the cluster, as a job of its own
    state("export", project, 500)              # done, missing, stale, broken

Each has a run directory of its own below the run's (`AtStep` in kit/store/paths.py), into which the
checkpoint is linked before anything else: the run may remove it at any time. A job that is done lets it
go; one that failed keeps it, to be run or submitted again. What the training job relies on is neither
written nor locked.
"""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING, Any

from kit.cluster import decisions, lock, scheduler
from kit.cluster.jobs import Job
from kit.config.run import Project
from kit.errors import CheckpointError, ClusterError
from kit.release import evaluate, export, generate
from kit.release import source as sources
from kit.run import begun, directory
from kit.store import manifest
from kit.store.files import read_json, sync_directory, write_json
from kit.store.paths import MANIFEST, Run
from kit.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import AtStep
    from kit.store.units import Unit
    from kit.training.checkpoint import Checkpoint

    Say = Callable[[str], None]

_STAGES = {"evaluate": evaluate, "export": export, "generate": generate}


def run(name: str, project: Project, step: int, say: Say) -> None:
    """Do it in this process. Raises CheckpointError where the run has no checkpoint of that step."""
    job = _ready(name, project, step)
    if state(name, project, step) != "done":
        _refuse_other_tokens(project, step)
        with lock.hold(job):
            prepare(name, project, step, say)
            _STAGES[name].work(job, 0, 1)
    sources.let_go(job)
    say(f"{name}: {_unit(name, job, project.recipe).folder}: {sources.moment(job).words}")


def submit(name: str, project: Project, step: int, say: Say) -> None:
    """Send it to the cluster, as a job of its own; returns at once. Raises as `run` does."""
    job = _ready(name, project, step)
    if state(name, project, step) == "done":
        sources.let_go(job)
        say(f"nothing to submit: {_unit(name, job, project.recipe).folder} is done")
        return
    _refuse_other_tokens(project, step)
    queue = scheduler.of(project.cluster)
    queue.check(project.cluster)
    title = f"{project.recipe.name}-{name}-{step}"
    sent = Job(name, _STAGES[name].work, title=title)
    lay_out = functools.partial(prepare, name, project, step, say)
    for line in queue.submit(job, project.cluster, [sent], lay_out).lines(name):
        say(line)
    say(f"directory of the job: {job.root}")


def prepare(name: str, project: Project, step: int, say: Say) -> None:
    """Give a job the checkpoint, then all else that it reads; `moment` last. Raises CheckpointError."""
    found, cluster = project.run, project.cluster
    job = found.at(step).job(name)
    moment = sources.moment_of(found, project.recipe, step)
    _take(found, step, job)
    here = _without_gpu_of_training(found, cluster)
    if here.device != cluster.device:
        say(f"{name}: on the CPU; with cluster.single.gpus=1 on a GPU that the training can spare")
    directory.lay_out_beside(Project(job, project.recipe, here), Run(found.beside))
    write_json(job.moment, moment.facts())


def state(name: str, project: Project, step: int, *, verify: bool = False) -> manifest.State:
    """Whether it is made. Raises CheckpointError where it is not, and cannot be any more."""
    found = project.run
    job = found.at(step).job(name)
    held = sources.given(job) if job.moment.is_file() else None
    known: manifest.State = "missing" if held is None else "stale"
    if held is not None and not _is_other(found, held):
        known = _unit(name, job, project.recipe).state(verify=verify)
        if known == "done" or held.problem(read=False) is None:
            return known
    _checkpoint(found, step)
    return known


def invalidate_broken(name: str, project: Project, step: int, say: Say) -> None:
    """Read every file of it; where one is not what was written it counts as missing from here on."""
    if state(name, project, step, verify=True) == "broken":
        folder = _unit(name, project.run.at(step).job(name), project.recipe).folder
        manifest.invalidate(folder)
        say(f"{name}: {folder} is damaged, and will be made again")


def results(run: Run) -> list[dict[str, Any]]:
    """What was made beside the training of a run, and what failed, as plain values, by step."""
    return [found for at in run.made_at() if len(found := _result(at)) > 1]


def unmade(at: AtStep) -> list[tuple[str, Run]]:
    """The commands that were begun or sent for a step and have made nothing yet, with their directories."""
    jobs = [(name, at.job(name)) for name in _STAGES]
    return [(n, job) for n, job in jobs if job.moment.is_file() and not _is_made(_folders(at)[n])]


def at_work(job: Run) -> str | None:
    """What is at work in a run directory at this moment, or why that is not known."""
    try:
        alive = scheduler.alive(job)
    except ClusterError as error:
        return str(error)
    return ", ".join(one.words for one in alive) or None


def _result(at: AtStep) -> dict[str, Any]:
    folders = _folders(at)
    found: dict[str, Any] = {"step": at.step}
    if _is_made(folders["evaluate"]):
        found["scores"] = read_json(folders["evaluate"] / evaluate.SCORES)
    if _is_made(folders["generate"]):
        found["samples"] = read_json(folders["generate"] / generate.SAMPLES)
    if _is_made(folders["export"]):
        found["export"] = str(folders["export"])
    if failed := {name: why for name, job in unmade(at) if (why := _failure(name, job))}:
        found["failed"] = failed
    return found


def _folders(at: AtStep) -> dict[str, Path]:
    return {"evaluate": at.evaluation, "export": at.export, "generate": at.samples}


def _is_made(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _failure(name: str, job: Run) -> str | None:
    """Why a job ended for good before its result was made, if it did."""
    rows = [row for row in decisions.recorded(job) if row["name"] == name]
    last = rows[-1]["reason"] if rows and not rows[-1]["requeued"] else None
    return decisions.mistake(job, name) or last


def _unit(name: str, job: Run, recipe: Recipe) -> Unit:
    unit: Unit = _STAGES[name].units(job, recipe)[0]
    return unit


def _is_other(run: Run, held: Checkpoint) -> bool:
    """Whether the run has another checkpoint of that step by now, as after a rollback."""
    return any(
        made.step == held.step and made.folder.name != held.folder.name
        for made in checkpoint.committed(run)
    )


def _ready(name: str, project: Project, step: int) -> Run:
    """The directory of a job that nobody works for; the recipe must be the run's own. Raises RunError."""
    begun.refuse_other(project)
    job = project.run.at(step).job(name)
    scheduler.ensure_idle(job)
    return job


def _refuse_other_tokens(project: Project, step: int) -> None:
    """Raises CheckpointError or StageError here and now where the job would."""
    for made in checkpoint.committed(project.run):
        if made.step == step:
            evaluate.causes_of(project.recipe, made)


def _take(run: Run, step: int, job: Run) -> None:
    """Link the checkpoint of a step into a job's directory, if it is not there already."""
    held = sources.given(job)
    if held and not _is_other(run, held) and held.problem(read=False) is None:
        return
    wanted = _checkpoint(run, step)
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    target = job.checkpoints / wanted.folder.name
    staging = target.with_name(f".{target.name}")
    try:
        checkpoint.link(wanted, staging)
        staging.rename(target)
        sync_directory(job.checkpoints)
    except BaseException:
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        raise


def _checkpoint(run: Run, step: int) -> Checkpoint:
    """The run's checkpoint of a step; raises CheckpointError where it has none that it made itself."""
    found = checkpoint.of_step(run, step, "--step")
    if found.attempt == 0:
        origin = read_json(run.origin)["run"]
        raise CheckpointError(
            f"--step {step}: is what {run.root} was begun from; give {origin}, or a later step"
        )
    return found


def _without_gpu_of_training(run: Run, cluster: Cluster) -> Cluster:
    """The cluster with its device, or with the CPU where no GPU is free for sure."""
    spare = cluster.is_this_machine and not lock.is_held(run)
    if cluster.device == "cpu" or cluster.single.gpus or spare:
        return cluster
    return cluster.model_copy(update={"device": "cpu"})
