"""Submission of jobs to Slurm: the only door to submitit, which writes the scripts and calls sbatch.

srun starts one process for each rank, with the path of the run directory and the name of the stage
(kit/cluster/task.py); signals, checkpoints and requeues are handled by the kit. Only a run that keeps code
of an earlier version gets its tasks as pickles, since that code knows nothing else.
"""

from __future__ import annotations

import functools
import io
import os
import pkgutil
import re
import shlex
import sys
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import submitit

from kit.cluster import entry, partition_limits
from kit.cluster import task as program
from kit.cluster.jobs import RESOURCES
from kit.cluster.unasked import TERMINATED
from kit.config.sbatch import flag
from kit.errors import ClusterError, ConfigError, QueueLimit
from kit.run import kept_code
from kit.store.files import write_json
from kit.store.paths import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kit.cluster.jobs import Job, Work
    from kit.config.cluster import Cluster, Kind

# The end of the time limit as Unix time, for the ranks. Slurm sets it from 23.02 on; before that, ask
# squeue once for all ranks, and not for long: without an answer no limit is known.
_END_TIME = (
    "export EKIDEN_END_TIME=${SLURM_JOB_END_TIME:-$(SLURM_TIME_FORMAT=%s timeout 60 "
    "squeue --noheader --jobs=$SLURM_JOB_ID --format=%e)}"
)
# srun passes the environment of this shell on, also where sbatch was given or has as default --export=NONE.
_TO_TASKS = "export SLURM_EXPORT_ENV=ALL"
_STARTED = "export EKIDEN_STARTED=$(date +%s)"
# srun in the background: the shell would not hear SIGTERM before it has ended. A signal ends `wait` early.
_HEARING_SRUN = (
    "srun() {",
    '  command srun "$@" & step=$!',
    "  while wait $step; code=$?; ((code > 128)) && kill -0 $step 2>/dev/null; do :; done",
    "  return $code",
    "}",
)
# Modules of entry functions that had another path in earlier versions: a run that has begun keeps its code.
_FORMER_PATHS = {
    "kit.corpus.dedup.fingerprint": "kit.corpus.fingerprint",
    "kit.corpus.dedup.deduplicate": "kit.corpus.deduplicate",
}
# sbatch's words for an array that is larger than MaxArraySize, or than a limit on jobs.
_TOO_MANY = re.compile(r"job array|(Max|Grp)Submit|temporarily un")
_LIMIT = re.compile(r"^sbatch: error: (\w+Limit)$", re.MULTILINE)  # of a QOS or an account


def send(run: Run, cluster: Cluster, job: Job, after: list[str]) -> str:
    """Submit one job to Slurm, to start after the jobs `after`; returns its id. Raises ClusterError."""
    folder = run.job_logs(job.name)
    folder.mkdir(parents=True, exist_ok=True)
    executor = _set_up(submitit.SlurmExecutor, run, cluster, job, after)
    if cluster.passed_variables:
        os.environ.pop("SBATCH_EXPORT", None)  # goes before the option in the script
    try:
        # submitit prints what sbatch says of a refusal, of which the error has the important part.
        with _nothing_left_of_a_refusal(folder), redirect_stderr(io.StringIO()):
            identity = _submit(executor, run, cluster, job)
    except submitit.core.utils.FailedJobError as error:
        refusal = _refusal(cluster, job, str(error))
        if not isinstance(refusal, QueueLimit):  # a site's own words may take several lines
            print(error, file=sys.stderr)
        raise refusal from None
    write_json(run.submitted_tasks(job.name, identity), {"elements": len(job.task_numbers)})
    return identity


def forget(run: Run, name: str, job_id: str) -> None:
    """Remove the files of a job that was cancelled before it could start."""
    folder = run.job_logs(name)
    paths = submitit.core.utils.JobPaths(folder, job_id)
    for path in (*folder.glob(".submission_file_*"), *folder.glob(f"{job_id}_*_submitted.pkl")):
        if not path.is_symlink() or path.resolve() == paths.submission_file.resolve():
            path.unlink()
    for path in (paths.submission_file, paths.submitted_pickle, run.submitted_tasks(name, job_id)):
        path.unlink(missing_ok=True)


def _submit(executor: submitit.SlurmExecutor, run: Run, cluster: Cluster, job: Job) -> str:
    """Call sbatch; returns the id of the job."""
    if program.known_to(run):
        return str(executor._submit_command(_command(run, cluster, job)).job_id)
    executor.parameters.pop("map_count", None)  # it sets that itself
    with executor.batch():
        submitted = [executor.submit(enter, *arguments) for arguments in _pickled(run, job)]
    return str(submitted[0].job_id).split("_", maxsplit=1)[0]


@contextmanager
def _nothing_left_of_a_refusal(folder: Path) -> Iterator[None]:
    """Remove the files that submitit wrote for a job, if sbatch refuses it."""
    before = {*folder.iterdir()}
    try:
        yield
    except BaseException:
        for path in {*folder.glob("*.pkl"), *folder.glob(".submission_file_*")} - before:
            path.unlink()
        raise


def _refusal(cluster: Cluster, job: Job, words: str) -> ClusterError:
    """The last line of sbatch's words, its name of the limit, and the key to lower for a smaller array."""
    reason = words.strip().splitlines()[-1]
    limit, remedy = _LIMIT.search(words), partition_limits.remedy(job)
    message = f"cluster {cluster.name}: sbatch refuses {job.name}: {reason}"
    message += f" ({limit[1]})" if limit else ""
    if not _TOO_MANY.search(words):
        return ClusterError(message)
    remedies = [remedy] if remedy else []
    message += f"; {', or '.join([*remedies, 'submit the chain in parts, as with --until'])}"
    return QueueLimit(message, limit=limit[1] if limit else "a limit of sbatch", job=job.name)


class _Renderer(submitit.SlurmExecutor):  # type: ignore[misc]  # an Any
    """submitit's executor, for its scripts only: they can be had without Slurm."""

    @classmethod
    def affinity(cls) -> int:
        return 1


def script(run: Run, cluster: Cluster, job: Job, after: list[str]) -> str:
    """The script that `send` would submit; writes nothing."""
    executor = _set_up(_Renderer, run, cluster, job, after)
    known = program.known_to(run)
    command = _command(run, cluster, job) if known else executor._submitit_command_str
    text: str = executor._make_submission_file_text(command, "")
    return text


def _set_up(
    kind: type[submitit.SlurmExecutor], run: Run, cluster: Cluster, job: Job, after: list[str]
) -> submitit.SlurmExecutor:
    """An executor with the options of a job. Raises ConfigError for a path that Slurm would not keep."""
    if "%" in str(run.root):
        raise ConfigError(
            f"{run.root}: Slurm takes % in the path of a log for a pattern; give a workspace= without it"
        )
    executor = kind(run.job_logs(job.name), python=shlex.join(task_python(cluster)))
    executor.update_parameters(**_parameters(run, cluster, job, after))
    if (elements := len(job.task_numbers)) > 1:
        executor.parameters["map_count"] = elements  # makes it an array
    return executor


def _command(run: Run, cluster: Cluster, job: Job) -> str:
    """The command of every rank, or of the process that starts them, as words of a shell."""
    work = ["-u", "-m", program.MODULE, *program.Work.of(job).words(run, job.name)]
    if job.starts_ranks:  # in place of the shell, so that it hears SIGTERM
        return f"exec {shlex.join([shell_python(cluster), *work])}"
    return shlex.join([*task_python(cluster), *work])


def task_python(cluster: Cluster) -> list[str]:
    """The words that start Python in a rank: inside the container, if there is one."""
    container = cluster.container
    return [shell_python(cluster)] if container is None else [*container.command, container.python]


def shell_python(cluster: Cluster) -> str:
    """Python of the batch shell, which is never in a container."""
    return cluster.python or sys.executable


# A run that keeps code of an earlier version unpickles its tasks; jobs of that version may still be queued
# when its code is amended, and then call `enter` here.


def enter(work: Work, run_root: str, name: str, task: int, tasks: int) -> None:
    """Called by submitit in every process of a job whose tasks are pickles."""
    environment = submitit.JobEnvironment()
    # An earlier start may have left a result, or half of one: submitit would fail on it.
    result = environment.paths.result_pickle
    for stale in (result, result.with_name(f"{result.name}.save_tmp")):
        stale.unlink(missing_ok=True)
    ranks = {
        "RANK": str(environment.global_rank),
        "LOCAL_RANK": str(environment.local_rank),
        "WORLD_SIZE": str(environment.num_tasks),
        "EKIDEN_NODES": str(environment.num_nodes),
    }
    entry.perform(work, Run(Path(run_root)), name, task, tasks, ranks)


def pickle_tasks(run: Run, job: Job) -> None:
    """Pickle the tasks of a job on this machine as submitit does, for `run_pickled`."""
    folder = run.job_logs(job.name)
    folder.mkdir(parents=True, exist_ok=True)
    for number, arguments in zip(job.task_numbers, _pickled(run, job), strict=True):
        delayed = submitit.core.utils.DelayedSubmission(enter, *arguments)
        delayed.set_timeout(timeout_min=0, max_num_timeout=0)
        paths = submitit.core.utils.JobPaths(folder, f"{job.name}-{number}")
        delayed.dump(paths.submitted_pickle)


def run_pickled(folder: Path) -> None:
    """Run a pickled task in this process, which has its environment already."""
    from submitit.core.submission import process_job

    process_job(folder)


def _pickled(run: Run, job: Job) -> list[tuple[_Named, str, str, int, int]]:
    """The arguments of `enter` for each task."""
    work = _in_code_of(run, job.work)
    return [(work, str(run.root), job.name, number, job.tasks) for number in job.task_numbers]


@dataclass(frozen=True)
class _Named:
    """A function as `MODULE:NAME`, looked up when it is unpickled."""

    name: str

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pkgutil.resolve_name, (self.name,)


def _in_code_of(run: Run, work: Work) -> _Named:
    """The function under its path in the run's code, which may be an earlier version."""
    module = work.__module__
    former = _FORMER_PATHS.get(module)
    if former is not None and (run.code / f"{former.replace('.', '/')}.py").is_file():
        module = former
    return _Named(f"{module}:{work.__qualname__}")


def job_environment(run: Run, cluster: Cluster) -> dict[str, str]:
    """Environment variables of every task, which import the run's own code and never the checkout.

    The code is the present snapshot: a later amendment does not change it under a running task. Folders
    of the cluster file's PYTHONPATH come after it.
    """
    more = cluster.environment.get("PYTHONPATH")
    return {
        "PYTHONSAFEPATH": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "SUBMITIT_LOG_LEVEL": "WARNING",  # hides the lines on loading a pickle
        # All ranks of a node number its GPUs alike, fast ones or not (CUDA's default: the fastest first).
        **({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if cluster.device == "cuda" else {}),
        **cluster.variables,
        "PYTHONPATH": os.pathsep.join([str(run.code.resolve()), *([more] if more else [])]),
    }


def _parameters(run: Run, cluster: Cluster, job: Job, after: list[str]) -> dict[str, Any]:
    """submitit's parameters for a job."""
    without = functools.partial(cluster.replaced, job.resources)
    given = {name: flag(value) for name, value in cluster.sbatch_of(job.resources).items()}
    passed = {"export": "ALL"} if cluster.passed_variables else {}
    more = _without_none({"requeue": True, "kill-on-invalid-dep": "yes", **passed, **given})
    if after:
        more["dependency"] = f"afterok:{after[0]}"
    setup = [
        *setup_lines(
            shlex.quote(str(run.code)), job_environment(run, cluster), cluster, job.resources
        ),
        *(() if job.starts_ranks else _traps(run, cluster, job)),
    ]
    common: dict[str, Any] = {
        "job_name": job.title or f"{run.root.name}-{job.name}",
        "setup": setup,
        "additional_parameters": more,
        "stderr_to_stdout": True,
        "wckey": None,  # submitit's own, which sites with keys of their own refuse; yours is in `sbatch`
    }
    if job.resources != "training":
        task = cluster.resources_of(job.resources)
        sizes = {
            "partition": task.partition,
            "time": task.minutes,
            "cpus_per_task": task.cpus,
            "gpus_per_node": None if without("gpus") else task.gpus or None,
            "mem": None if without("memory_gb") else _megabytes(task.memory_gb),
        }
        parallel = {"array_parallelism": task.parallel, "ntasks_per_node": 1, "nodes": 1}
        return common | parallel | _without_none(sizes) | _srun(task.cpus, cluster, job)
    training = cluster.training
    sizes = {
        "partition": training.partition,
        "time": training.minutes,
        "nodes": training.nodes,
        "ntasks_per_node": training.ranks_per_node,
        "gpus_per_node": None if without("gpus") else training.gpus_per_node or None,
        "cpus_per_task": training.cpus_per_rank,
        "mem": None if without("memory_gb") else _megabytes(training.memory_gb),
        "signal_delay_s": training.warning_seconds,
    }
    return common | _without_none(sizes) | _srun(training.cpus_per_rank, cluster, job)


def _traps(run: Run, cluster: Cluster, job: Job) -> list[str]:
    """Lines of the batch shell that decide on a requeue: see kit/cluster/requeue.py."""
    decide = shlex.join(
        [shell_python(cluster), "-m", "kit.cluster.requeue", str(run.root), job.name]
    )
    # Code of earlier versions does not know what to do at SIGTERM.
    twice = kept_code.has(run, "kit/cluster/successor.py")
    told = f"export {TERMINATED}=1" + (f"; {decide} TERM" if twice else "")
    # Python takes the place of the shell, which Slurm signals after a requeue. Until it has started, a
    # signal must not end it.
    at_end = f"code=$?; trap '' TERM; exec {decide} $code"
    return [
        f"trap {shlex.quote(told)} TERM",
        f"trap {shlex.quote(at_end)} EXIT",
        *_HEARING_SRUN,
    ]


def setup_lines(
    code: str, environment: Mapping[str, str], cluster: Cluster, resources: Kind
) -> list[str]:
    """The lines that set up the shell of a job; `code` is a word of the shell, the run's code.

    `environment` as of `job_environment`.
    """
    variables = {RESOURCES: resources, **environment}
    variables.pop("PYTHONPATH")
    if resources == "single":
        # The tokenizer's training uses all CPUs of its node.
        variables.pop("TOKENIZERS_PARALLELISM", None)
    return [
        *cluster.setup,
        # The snapshot when the job starts, not when it was submitted.
        f'export PYTHONPATH="$(readlink -f {code})"{_behind(cluster)}',
        _TO_TASKS,
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        *([_STARTED, _END_TIME] if resources == "training" else []),
    ]


def _behind(cluster: Cluster) -> str:
    """The cluster file's PYTHONPATH, to append to that of the script."""
    more = cluster.environment.get("PYTHONPATH")
    return shlex.quote(f"{os.pathsep}{more}") if more else ""


def _srun(cpus: int, cluster: Cluster, job: Job) -> dict[str, Any]:
    if job.starts_ranks:
        return {"use_srun": False}
    return {"srun_args": srun_words(cluster, job.resources, cpus)}


def srun_words(cluster: Cluster, resources: Kind, cpus: int) -> list[str]:
    """Options of srun: a rank that fails ends the others; CPUs are not inherited from sbatch."""
    return ["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}", *srun_options(cluster, resources)]


def srun_options(cluster: Cluster, resources: Kind) -> list[str]:
    """The options of srun in a cluster file, as words."""
    options = _distribution(cluster, resources)
    options |= cluster.container.srun if cluster.container else {}
    options |= cluster.srun_of(resources)
    given = _without_none({name: flag(value) for name, value in options.items()})
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


def _distribution(cluster: Cluster, resources: Kind) -> dict[str, str]:
    """Neighbouring ranks on one socket, as their GPUs are, unless the cluster file places them itself.

    By default Slurm deals them out to the sockets in turn, and half of them reach their GPU through the
    other socket.
    """
    placed = {*cluster.sbatch_of(resources), *cluster.srun_of(resources), *cluster.environment}
    if resources != "training" or placed & {"distribution", "SLURM_DISTRIBUTION"}:
        return {}
    return {"distribution": "block:block"}


def _megabytes(gigabytes: float | None) -> str | None:
    return None if gigabytes is None else f"{int(gigabytes * 1024)}M"


def _without_none(sizes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sizes.items() if value is not None}
