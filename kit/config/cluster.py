"""Cluster files: where jobs run, and what each gets."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from kit.config.devices import ACCELERATORS
from kit.config.recipe import NAME
from kit.config.section import Section


class TaskResources(Section):
    """What one task of a job without ranks gets.

    With kind: local that is cpus, parallel and retries of the section arrays, for all such jobs.
    """

    partition: str | None = Field(
        default=None, description="Slurm's partition. null: the site's default"
    )
    cpus: int = Field(
        default=1,
        gt=0,
        description="CPU cores of a task; in `arrays` also its processes of Juman++",
    )
    gpus: int = Field(
        default=0,
        ge=0,
        description="GPUs of a task that Slurm is asked for. Used only with device: cuda",
    )
    memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="memory of a task that Slurm is asked for, in GB. null: the site's default",
    )
    minutes: int = Field(
        default=60, gt=0, description="time limit of a task that Slurm is asked for, in minutes"
    )
    parallel: int = Field(default=2, gt=0, description="tasks of a job at a time, at most")
    retries: int = Field(default=2, ge=0, description="times a failed task is tried again")


class TrainingResources(Section):
    """What the training job gets. Ranks are nodes x ranks_per_node."""

    partition: str | None = Field(
        default=None, description="Slurm's partition. null: the site's default"
    )
    nodes: int = Field(default=1, gt=0, description="nodes of the job")
    ranks_per_node: int = Field(
        gt=0, description="processes of a node: one for each GPU, or a few on a CPU"
    )
    gpus_per_node: int = Field(
        default=0,
        ge=0,
        description="GPUs of a node that Slurm is asked for, one for each rank. 0: none. Slurm only",
    )
    cpus_per_rank: int = Field(
        default=1, gt=0, description="CPU cores of a rank that Slurm is asked for. Slurm only"
    )
    memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="memory of a node that Slurm is asked for, in GB. null: the site's default. Slurm only",
    )
    minutes: int = Field(
        default=60, gt=0, description="time limit of one attempt, in minutes; the next one goes on"
    )
    warning_seconds: int = Field(
        default=90,
        gt=0,
        description="seconds before the limit at which USR2 comes: time for a save",
    )
    grace_seconds: int | None = Field(
        default=None, gt=0, description="seconds from TERM to KILL at a preemption. null: not known"
    )
    failures: int = Field(
        default=3,
        ge=0,
        description="crashes and hangs without a new checkpoint that are requeued; one more ends the run",
    )
    accelerator: str | None = Field(
        default=None,
        description="GPU of a rank, for the MFU and for precision: auto: "
        f"{', '.join(ACCELERATORS)}. null: no MFU",
    )

    @field_validator("accelerator")
    @classmethod
    def _known(cls, accelerator: str | None) -> str | None:
        if accelerator is not None and accelerator not in ACCELERATORS:
            raise ValueError(f"known are {', '.join(ACCELERATORS)}; or leave it out")
        return accelerator

    @property
    def ranks(self) -> int:
        """World size."""
        return self.nodes * self.ranks_per_node


class Cluster(Section):
    """Where jobs run."""

    BOUND: ClassVar = frozenset({"name", "kind"})  # chosen with a submission

    name: str = Field(pattern=NAME, description="name of the cluster, in commands and on record")
    kind: Literal["local", "slurm"] = Field(
        description="who starts the jobs. local: a supervisor of the kit, on this machine; slurm: sbatch"
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="what a rank computes on")
    network: TaskResources | None = Field(
        default=None,
        description="the download: a node that reaches the internet. null: as `arrays`. Slurm only",
    )
    arrays: TaskResources = Field(
        default=TaskResources(),
        description="array jobs: preprocess, count, tokenize. With kind: local all jobs but the training",
    )
    single: TaskResources = Field(
        default=TaskResources(),
        description="all other jobs: tokenizer, evaluate, export, generate. Slurm only, but for gpus",
    )
    training: TrainingResources = Field(description="the training job: ranks, time limit, retries")
    environment: dict[str, str] = Field(
        default={}, description="environment variables of every job, such as NCCL_DEBUG"
    )
    setup: list[str] = Field(
        default=[],
        description="shell lines before the job, such as module load. Slurm only",
    )
    sbatch: dict[str, str] = Field(
        default={}, description="more options of sbatch, such as account. Slurm only"
    )
    preempt_at_step: int | None = Field(
        default=None,
        gt=0,
        description="step of a drill: one preemption there. null: none. Local only",
    )

    @model_validator(mode="after")
    def _a_gpu_for_each_rank(self) -> Cluster:
        training = self.training
        if self.device == "cuda" and 0 < training.gpus_per_node < training.ranks_per_node:
            raise ValueError(
                f"training.gpus_per_node={training.gpus_per_node} for "
                f"training.ranks_per_node={training.ranks_per_node}: a rank has a GPU of its own"
            )
        return self

    @property
    def is_this_machine(self) -> bool:
        """Whether jobs run where they are submitted, before the eyes of whoever does that."""
        return self.kind == "local"

    def resources_of(self, kind: Literal["network", "arrays", "single"]) -> TaskResources:
        """What one task of a job of that kind gets."""
        return (
            self.single if kind == "single" else (kind == "network" and self.network) or self.arrays
        )
