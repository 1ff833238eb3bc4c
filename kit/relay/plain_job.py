"""The job of a plain batch script, sbatch/STAGE.sbatch, from within:

    python -m kit.relay.plain_job begin RUN STAGE [TASKS]        # in the batch shell: puts it on record
    srun python -m kit.relay.plain_job work RUN STAGE [TASKS]    # then, in each rank

An array has the numbers of tasks as indices, and there are as many as the recipe says, or TASKS. Without an
array one task does all the work.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cluster import lock, slurm_queue, task
from kit.cluster.jobs import clear_previous_outcome
from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.errors import USER_MISTAKE, EkidenError, RunError
from kit.output import log
from kit.relay.stages import stages_of
from kit.store.files import read_json, write_json
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.cluster.jobs import Job


def begin(run: Run, job: Job, environment: Mapping[str, str]) -> None:
    """Record this job as the one of its stage, for `status`, `logs` and `cancel`.

    Raises RunError if another job of the stage, or a process of this machine, has the run.
    """
    task_of(job, environment)
    own = environment.get("SLURM_ARRAY_JOB_ID") or environment["SLURM_JOB_ID"]
    known = slurm_queue.submitted(run)
    if known.get(job.name) == own:  # a requeue, or another task of the array
        return
    lock.ensure_idle(run)
    alive = slurm_queue.live_patiently(run)
    if (other := known.get(job.name)) in alive:
        raise RunError(
            f"{run.root}: job {other}, {job.name} of this run too, is {alive[other]}; wait for it, or "
            f"scancel {other}"
        )
    clear_previous_outcome(run, [job])
    run.job_logs(job.name).mkdir(parents=True, exist_ok=True)
    others = {name: number for name, number in known.items() if number in alive}
    cluster = read_json(run.cluster)["name"]
    slurm_queue.record(run, cluster, time.time(), others, {job.name: own}, plain=True)
    count = int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
    write_json(run.submitted_tasks(job.name, own), {"elements": count})
    _warn_of_too_few(job, environment)


def task_of(job: Job, environment: Mapping[str, str]) -> tuple[int, int]:
    """The task of this process, and the number of tasks. Raises RunError for an index beyond that."""
    index = environment.get("SLURM_ARRAY_TASK_ID")
    if index is None:
        return 0, 1
    if int(index) >= job.tasks:
        raise RunError(
            f"--array: {job.name} has no task {index} of {job.tasks}; use --array=0-{job.tasks - 1}"
        )
    return int(index), job.tasks


def _warn_of_too_few(job: Job, environment: Mapping[str, str]) -> None:
    """Warn of an array that looks whole and is not; some numbers, such as 3,7, are those that failed."""
    count = int(environment.get("SLURM_ARRAY_TASK_COUNT", job.tasks))
    if count == int(environment.get("SLURM_ARRAY_TASK_MAX", "0")) + 1 < job.tasks:
        log.warning(
            f"{job.name}: the array has {count} of {job.tasks} tasks; the others stay undone"
        )


def work(run: Run, job: Job, environment: Mapping[str, str]) -> None:
    """Do the work of this process. A user's mistake ends it with one line and exit code 2."""
    _, tasks = task_of(job, environment)
    task.main(task.Work(task.Work.of(job).function, tasks, range(tasks)).words(run, job.name))


def main(verb: str, run_root: str, name: str, tasks: str = "") -> None:
    """Perform a verb, `begin` or `work`, for a stage of a run."""
    run = Run(Path(run_root))
    recipe = read_resolved(run.recipe, Recipe)
    stage = next((stage for stage in stages_of(recipe) if stage.name == name), None)
    if stage is None:
        raise RunError(f"{run.root}: its recipe has no stage {name}, so there is nothing to do")
    job = stage.job(recipe)
    if tasks:
        if not tasks.isdecimal() or not 0 < int(tasks) <= job.tasks:
            raise RunError(f"{tasks}: as the number of tasks of {name}, give 1 to {job.tasks}")
        job = replace(job, tasks=int(tasks))
    act = {"begin": begin, "work": work}[verb]
    act(run, job, os.environ)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except EkidenError as error:
        log.error(f"{sys.argv[3]}: {error}")
        sys.exit(USER_MISTAKE)
