"""Cluster files: where jobs run, and what each gets."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kit.config.checks import Checks
from kit.config.container import Container, Words  # noqa: TC001  pydantic reads annotations
from kit.config.devices import ACCELERATORS
from kit.config.recipe import NAME
from kit.config.sbatch import merged, names_of_variables, options, refuse_own, replacing
from kit.config.section import RECORDED, Section

Options = Annotated[dict[str, str], BeforeValidator(options)]  # of sbatch or srun, by name
Kind = Literal["network", "arrays", "single", "training"]  # the sections of jobs
_ONE_LINE = r"^[^\x00-\x1f]*$"  # of text for a script of sbatch


def _options(program: str) -> Any:
    return Field(
        default={},
        description=f"{program} options of these jobs, which go before those of `cluster.{program}`. Slurm "
        "only",
    )


class TaskResources(Section):
    """Resources of one task of a job without ranks.

    With kind: local only cpus, parallel and retries of the section arrays count, for all such jobs.
    """

    partition: str | None = Field(
        default=None,
        pattern=_ONE_LINE,
        description="Slurm's partition. null: the site's default",
    )
    cpus: int = Field(
        default=1,
        gt=0,
        description="CPU cores of a task; in `arrays` also the number of its Juman++ processes",
    )
    gpus: int = Field(
        default=0,
        ge=0,
        description="GPUs of a task, requested from Slurm. Used only with device: cuda",
    )
    memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="memory of a task, requested from Slurm, in GB. null: the site's default",
    )
    minutes: int = Field(
        default=60, gt=0, description="time limit of a task, requested from Slurm, in minutes"
    )
    parallel: int = Field(
        default=2,
        gt=0,
        description="maximum number of tasks of a job that run at once. With kind: local the default is "
        "this machine's cores, divided by `cpus`",
    )
    retries: int = Field(default=2, ge=0, description="number of retries of a failed task")
    sbatch: Options = _options("sbatch")
    srun: Options = _options("srun")


class TrainingResources(Section):
    """Resources of the training job. Its world size is nodes x ranks_per_node."""

    partition: str | None = Field(
        default=None,
        pattern=_ONE_LINE,
        description="Slurm's partition. null: the site's default",
    )
    nodes: int = Field(default=1, gt=0, description="nodes of the job")
    ranks_per_node: int = Field(
        gt=0, description="processes per node: one for each GPU, or a few on a CPU"
    )
    gpus_per_node: int = Field(
        default=0,
        ge=0,
        description="GPUs per node, requested from Slurm, one for each rank. 0: none. Slurm only",
    )
    cpus_per_rank: int = Field(
        default=1, gt=0, description="CPU cores per rank, requested from Slurm. Slurm only"
    )
    memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="memory per node, requested from Slurm, in GB. null: the site's default. Slurm only",
    )
    interface: str | None = Field(
        default=None,
        pattern=r"^[^\s/,]{1,15}$",
        description="network interface between the nodes, such as ib0, for gloo, NCCL and rank 0's port. "
        "null: the one at which other nodes reach rank 0. GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME in "
        "`environment` go before it. Slurm only",
    )
    minutes: int = Field(
        default=60,
        gt=0,
        description="time limit of one attempt, in minutes; the next attempt resumes",
    )
    warning_seconds: int = Field(
        default=90,
        gt=0,
        description="send SIGUSR2 this many seconds before the time limit, as time to save",
    )
    grace_seconds: int | None = Field(
        default=None,
        gt=0,
        description="grace time of a preemption: seconds from SIGTERM to SIGKILL. null: unknown",
    )
    failures: int = Field(
        default=3,
        ge=0,
        description="number of crashes and hangs without a new checkpoint that are requeued; the next one "
        "ends the run",
    )
    accelerator: str | None = Field(
        default=None,
        description="model of a rank's GPU, used for MFU and for precision: auto. One of "
        f"{', '.join(ACCELERATORS)}. null: no MFU",
    )
    sbatch: Options = _options("sbatch")
    srun: Options = _options("srun")

    @field_validator("accelerator")
    @classmethod
    def _known(cls, accelerator: str | None) -> str | None:
        if accelerator is not None and accelerator not in ACCELERATORS:
            raise ValueError(f"known GPUs: {', '.join(ACCELERATORS)}; name one, or leave it out")
        return accelerator

    @property
    def ranks(self) -> int:
        """World size."""
        return self.nodes * self.ranks_per_node


class Cluster(Section):
    """Where jobs run."""

    BOUND: ClassVar = frozenset({"name", "kind"})  # chosen with a submission

    name: str = Field(
        pattern=NAME, description="name of the cluster, in commands and in the records"
    )
    kind: Literal["local", "slurm"] = Field(
        description="scheduler. local: the kit's own supervisor, on this machine; slurm: sbatch"
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="device of a rank")
    network: TaskResources | None = Field(
        default=None,
        description="the download job: a node with access to the internet. null: same as `arrays`. Slurm "
        "only",
    )
    arrays: TaskResources = Field(
        default=TaskResources(),
        description="array jobs: preprocess, count, tokenize. With kind: local, all jobs except training",
    )
    single: TaskResources = Field(
        default=TaskResources(),
        description="all other jobs: clusters (of near-duplicates), tokenizer, evaluate, export, generate. "
        "Slurm only, except gpus",
    )
    training: TrainingResources = Field(description="the training job: ranks, time limit, retries")
    environment: Annotated[dict[str, str | None], AfterValidator(names_of_variables)] = Field(
        default={},
        description="environment variables set for every job, such as NCCL_DEBUG. null: taken from the "
        "environment of who submits, and written nowhere, as secrets must be. Folders of PYTHONPATH come "
        "after the run's own code",
    )
    setup: list[str] = Field(
        default=[],
        description="shell commands run before each job, such as module load. Slurm only",
    )
    sbatch: Options = Field(
        default={},
        description="further sbatch options of every job, such as account: mine; true is for an option "
        "without a value, false leaves one out. Slurm only",
    )
    srun: Options = Field(
        default={},
        description="further options of srun, which starts the tasks, such as mpi: pmix. Slurm only",
    )
    python: Words | None = Field(
        default=None,
        description="Python of all jobs on the nodes, outside a container. null: the one that submits. "
        "Slurm only",
    )
    container: Container | None = Field(
        default=None,
        description="container in which the tasks run. null: none. Slurm only",
    )
    checks: Checks = Field(
        default=Checks(), description="what `check` and each start of the training look at"
    )
    preempt_at_step: int | None = Field(
        default=None,
        gt=0,
        description="simulate one preemption at this step, as a drill. null: none. Local only",
    )

    @model_validator(mode="before")
    @classmethod
    def _all_cores_of_this_machine(cls, tree: Any, info: ValidationInfo) -> Any:
        """The tasks of an array at once, unless they are given: decided at submission, and recorded."""
        local = isinstance(tree, dict) and tree.get("kind") == "local"
        if not local or info.context == RECORDED:
            return tree
        arrays = tree.get("arrays", {})
        if not isinstance(arrays, dict) or "parallel" in arrays:
            return tree
        cpus = arrays.get("cpus", 1)
        if not isinstance(cpus, int) or cpus < 1:  # invalid: reported later
            return tree
        parallel = max(1, len(os.sched_getaffinity(0)) // cpus)
        return tree | {"arrays": arrays | {"parallel": parallel}}

    @model_validator(mode="after")
    def _a_gpu_for_each_rank(self) -> Cluster:
        training = self.training
        if self.device == "cuda" and 0 < training.gpus_per_node < training.ranks_per_node:
            raise ValueError(
                f"training.gpus_per_node={training.gpus_per_node} for "
                f"training.ranks_per_node={training.ranks_per_node}: each rank needs its own GPU"
            )
        return self

    @model_validator(mode="after")
    def _options_of_the_user(self, info: ValidationInfo) -> Cluster:
        if info.context != RECORDED:  # an earlier version accepted some
            for kind in get_args(Kind):
                refuse_own(self.sbatch_of(kind))
        return self

    @model_validator(mode="after")
    def _one_container(self) -> Cluster:
        if self.container is not None:
            for kind in get_args(Kind):
                self.container.refuse_beside(self.srun_of(kind))
        return self

    @property
    def is_this_machine(self) -> bool:
        """Whether jobs run on the machine they are submitted from, with their output on its terminal."""
        return self.kind == "local"

    @property
    def variables(self) -> dict[str, str]:
        """The variables of `environment` whose values are in the cluster file."""
        return {name: value for name, value in self.environment.items() if value is not None}

    @property
    def passed_variables(self) -> list[str]:
        """The names of those that jobs take from the environment of who submits."""
        return [name for name, value in self.environment.items() if value is None]

    def resources_of(self, kind: Literal["network", "arrays", "single"]) -> TaskResources:
        """Resources of one task of a job of that kind."""
        return (
            self.single if kind == "single" else (kind == "network" and self.network) or self.arrays
        )

    def sbatch_of(self, kind: Kind) -> dict[str, str]:
        """The sbatch options of a job of that kind: the general ones, then those of its section."""
        return merged(self.sbatch, self._section_of(kind).sbatch)

    def replaced(
        self, kind: Kind, key: Literal["partition", "minutes", "memory_gb", "gpus"]
    ) -> str | None:
        """The sbatch option that replaces a key of the section; `gpus` is gpus_per_node in `training`."""
        return replacing(self.sbatch_of(kind), key)

    def srun_of(self, kind: Kind) -> dict[str, str]:
        """The srun options of a job of that kind, in the same way, without those of the container."""
        return merged(self.srun, self._section_of(kind).srun)

    def _section_of(self, kind: Kind) -> TaskResources | TrainingResources:
        return self.training if kind == "training" else self.resources_of(kind)
