"""Jobs that score, sample or export a single checkpoint while training continues.

    run("evaluate", project, 500, print)       # in this process
    submit("generate", project, 500, print)    # to the cluster, as a job of its own
    state("export", project, 500)              # done, missing, stale, broken

Each job has a run directory of its own below the run's (`AtStep` in kit/store/paths.py). The checkpoint is
linked into it first, since the run may remove it at any time. A finished job drops the links; a failed one
keeps them, to be run or submitted again. Nothing that the training job relies on is written or locked.
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
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kit.config.cluster import Cluster
    from kit.config.recipe import Recipe
    from kit.store.paths import AtStep
    from kit.store.units import Unit
    from kit.training.checkpoint import Checkpoint

    Say = Callable[[str], None]

_STAGES = {"evaluate": evaluate, "export": export, "generate": generate}


def run(name: str, project: Project, step: int, say: Say) -> None:
    """Run the job in this process. Raises CheckpointError if the run has no checkpoint of that step."""
    job = _idle_job(name, project, step)
    if state(name, project, step) != "done":
        _refuse_other_tokens(project, step)
        with lock.hold(job):
            prepare(name, project, step, say)
            _STAGES[name].work(job, 0, 1)
    sources.remove_links(job)
    say(f"{name}: {_folder(name, job)}: {sources.moment(job).words}")


def submit(name: str, project: Project, step: int, say: Say) -> None:
    """Submit the job to the cluster; returns immediately. Raises as `run` does."""
    job = _idle_job(name, project, step)
    if state(name, project, step) == "done":
        sources.remove_links(job)
        say(f"nothing to submit: {_folder(name, job)} is done")
        return
    _refuse_other_tokens(project, step)
    queue = scheduler.for_cluster(project.cluster)
    queue.check(project.cluster)
    _, stage_job = submission(name, project, step)
    lay_out = functools.partial(prepare, name, project, step, say)
    for line in queue.submit(job, project.cluster, [stage_job], lay_out).lines(name):
        say(line)
    say(f"directory of the job: {job.root}")


def steps(run: Run) -> list[int]:
    """The steps of all checkpoints that the run has written and still has.

    Raises CheckpointError if there is none.
    """
    found = {one.step for one in checkpoint.committed(run) if one.attempt > 0}
    if not found:
        raise CheckpointError(f"{run.root}: has no checkpoint yet; train first")
    return sorted(found)


def submission(name: str, project: Project, step: int) -> tuple[Run, Job]:
    """The job as `submit` sends it, with the run directory it works in; writes nothing."""
    title = f"{project.recipe.name}-{name}-{step}"
    return project.run.at(step).job(name), Job(name, _STAGES[name].work, title=title)


def prepare(name: str, project: Project, step: int, say: Say) -> None:
    """Link the checkpoint into a job's directory, then write the rest, `moment` last.

    Raises CheckpointError.
    """
    run, cluster = project.run, project.cluster
    job = run.at(step).job(name)
    moment = sources.moment_of(run, project.recipe, step)
    _link(run, step, job)
    job_cluster = _without_gpu_of_training(run, cluster)
    if job_cluster.device != cluster.device:
        say(f"{name}: runs on the CPU; give cluster.single.gpus=1 if training can spare a GPU")
    directory.lay_out_beside(Project(job, project.recipe, job_cluster), Run(run.beside))
    write_json(job.moment, moment.facts())


def state(name: str, project: Project, step: int, *, verify: bool = False) -> manifest.State:
    """The state of the result. Raises CheckpointError if it is not done and its checkpoint is gone."""
    run = project.run
    job = run.at(step).job(name)
    linked = sources.linked_checkpoint(job) if job.moment.is_file() else None
    result: manifest.State = "missing" if linked is None else "stale"
    if linked is not None and not _is_replaced(run, linked):
        result = _state_of(_units(name, job, project.recipe), verify=verify)
        if result == "done" or linked.problem(read=False) is None:
            return result
    _checkpoint(run, step)
    return result


def invalidate_broken(name: str, project: Project, step: int, say: Say) -> None:
    """Read every file of the result, and mark damaged ones as missing."""
    if state(name, project, step, verify=True) == "missing":
        return
    for unit in _units(name, project.run.at(step).job(name), project.recipe):
        if unit.state(verify=True) == "broken":
            manifest.invalidate(unit.folder)
            say(f"{name}: {unit.folder} is damaged and will be made again")


def results(run: Run) -> list[dict[str, Any]]:
    """The results and failures of a run's checkpoint jobs, as plain values, by step."""
    return [result for at in run.made_at() if len(result := _result(at)) > 1]


def unmade(at: AtStep) -> list[tuple[str, Run]]:
    """The jobs started or submitted for a step that have no result yet, with their directories."""
    jobs = [(name, at.job(name)) for name in _STAGES]
    return [(n, job) for n, job in jobs if job.moment.is_file() and not _is_made(_folders(at)[n])]


def at_work(job: Run) -> str | None:
    """The jobs running in a run directory now, or the reason why that is unknown."""
    try:
        alive = scheduler.alive(job)
    except ClusterError as error:
        return str(error)
    return ", ".join(entry.words for entry in alive) or None


def _result(at: AtStep) -> dict[str, Any]:
    folders = _folders(at)
    result: dict[str, Any] = {"step": at.step}
    if _is_made(folders["evaluate"]):
        result["scores"] = read_json(folders["evaluate"] / evaluate.SCORES)
    if _is_made(folders["generate"]):
        result["samples"] = read_json(folders["generate"] / generate.SAMPLES)
    if _is_made(folders["export"]):
        result["export"] = str(folders["export"])
    if failed := {name: reason for name, job in unmade(at) if (reason := _failure(name, job))}:
        result["failed"] = failed
    return result


def _folders(at: AtStep) -> dict[str, Path]:
    return {"evaluate": at.evaluation, "export": at.export, "generate": at.samples}


def _is_made(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _failure(name: str, job: Run) -> str | None:
    """The reason why a job failed for good, if it did."""
    rows = [row for row in decisions.read(job) if row["name"] == name]
    last = rows[-1]["reason"] if rows and not rows[-1]["requeued"] else None
    return decisions.mistake(job, name) or last


def _units(name: str, job: Run, recipe: Recipe) -> list[Unit]:
    units: list[Unit] = _STAGES[name].units(job, recipe)
    return units


def _state_of(units: Sequence[Unit], *, verify: bool) -> manifest.State:
    """The state of several units as one: done if all are, else that of the first that is not."""
    states = (unit.state(verify=verify) for unit in units)
    return next((state for state in states if state != "done"), "done")


def _folder(name: str, job: Run) -> Path:
    """The folder of the results of a checkpoint's job."""
    at = job.job_at
    assert at is not None  # it is laid out
    return _folders(at)[name]


def _is_replaced(run: Run, linked: Checkpoint) -> bool:
    """Whether the run now has another checkpoint of that step, as after a rollback."""
    return any(
        other.step == linked.step and other.folder.name != linked.folder.name
        for other in checkpoint.committed(run)
    )


def _idle_job(name: str, project: Project, step: int) -> Run:
    """The directory of a job that is not running. Raises RunError, also for a different recipe."""
    begun.refuse_other(project)
    job = project.run.at(step).job(name)
    scheduler.ensure_idle(job)
    return job


def _refuse_other_tokens(project: Project, step: int) -> None:
    """Raise the CheckpointError or StageError now that the job would raise later."""
    for candidate in checkpoint.committed(project.run):
        if candidate.step == step:
            evaluate.causes_of(project.recipe, candidate)


def _link(run: Run, step: int, job: Run) -> None:
    """Link the checkpoint of a step into a job's directory, unless it is there already."""
    linked = sources.linked_checkpoint(job)
    if linked and not _is_replaced(run, linked) and linked.problem(read=False) is None:
        return
    origin = _checkpoint(run, step)
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    target = job.checkpoints / origin.folder.name
    staging = target.with_name(f".{target.name}")
    try:
        checkpoint.link(origin, staging)
        staging.rename(target)
        sync_directory(job.checkpoints)
    except BaseException:
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        raise


def _checkpoint(run: Run, step: int) -> Checkpoint:
    """The run's checkpoint of a step. Raises CheckpointError if it has none that it wrote itself."""
    of_step = checkpoint.of_step(run, step, "--step")
    if of_step.attempt == 0:
        origin = read_json(run.origin)["run"]
        raise CheckpointError(
            f"--step {step}: {run.root} was forked from it; name the run {origin}, or a later step"
        )
    return of_step


def _without_gpu_of_training(run: Run, cluster: Cluster) -> Cluster:
    """The cluster with its device, or with the CPU unless a GPU is certainly free."""
    is_free = cluster.is_this_machine and not lock.is_held(run)
    if cluster.device == "cpu" or cluster.single.gpus or is_free:
        return cluster
    return cluster.model_copy(update={"device": "cpu"})
