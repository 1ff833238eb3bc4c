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

    partition: str | None = None
    cpus: int = Field(default=1, gt=0, description="of arrays also: processes of Juman++ a task")
    gpus: int = Field(
        default=0, ge=0, description="what Slurm is asked for; used only with device: cuda"
    )
    memory_gb: float | None = Field(default=None, gt=0)
    minutes: int = Field(default=60, gt=0)
    parallel: int = Field(default=2, gt=0, description="tasks at a time")
    retries: int = Field(default=2, ge=0, description="of a failed task")


class TrainingResources(Section):
    """What the training job gets. Ranks are nodes x ranks_per_node."""

    partition: str | None = None
    nodes: int = Field(default=1, gt=0)
    ranks_per_node: int = Field(gt=0)
    gpus_per_node: int = Field(
        default=0, ge=0, description="Slurm only, as are partition and memory_gb"
    )
    cpus_per_rank: int = Field(default=1, gt=0)
    memory_gb: float | None = Field(default=None, gt=0)
    minutes: int = Field(default=60, gt=0, description="time limit of one attempt")
    warning_seconds: int = Field(
        default=90, gt=0, description="USR2 comes so long before the limit"
    )
    grace_seconds: int | None = Field(
        default=None, gt=0, description="from TERM to KILL at a preemption; null: not known"
    )
    failures: int = Field(default=3, ge=0, description="crashes without a new checkpoint")
    accelerator: str | None = Field(
        default=None,
        description="the GPU of a rank, by its name in kit/config/devices.py: for the MFU, and for "
        "precision: auto",
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

    name: str = Field(pattern=NAME)
    kind: Literal["local", "slurm"]
    device: Literal["cpu", "cuda"] = "cpu"
    network: TaskResources | None = None  # download; null: as arrays. Slurm only
    arrays: TaskResources = TaskResources()  # preprocess, count, tokenize
    single: TaskResources = (
        TaskResources()
    )  # all others; a task a candidate. Slurm only, but for gpus
    training: TrainingResources
    environment: dict[str, str] = Field(default={})
    setup: list[str] = Field(
        default=[], description="Slurm only: shell lines before the job, such as module load"
    )
    sbatch: dict[str, str] = Field(
        default={}, description="Slurm only: more options of sbatch, such as account"
    )
    preempt_at_step: int | None = Field(
        default=None, gt=0, description="local only: a drill, one preemption at this step"
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

    def resources_of(self, kind: Literal["network", "arrays", "single"]) -> TaskResources:
        """What one task of a job of that kind gets."""
        return (
            self.single if kind == "single" else (kind == "network" and self.network) or self.arrays
        )
