"""The section `checks` of a cluster file: checks to skip, and thresholds of the others."""

from __future__ import annotations

import difflib

from pydantic import Field, field_validator

from kit.config.section import Section

# Every check of kit/cluster/preflight by name, and what it looks at.
NAMES = {
    "limits": "partitions, time limits and nodes against those of Slurm",
    "account": "account and QOS against those that Slurm's accounting allows you",
    "submission": "whether sbatch would accept the jobs",
    "host_memory": "the memory of a node against what the plan needs there",
    "space": "room for the checkpoints on the file system of the workspace",
    "inodes": "room for the number of their files",
    "quota": "your quota there",
    "durable": "whether what is synced there survives a crash, by the options of the mount",
    "create": "whether two processes cannot create the same file",
    "rename": "whether a file can be replaced at once, as a whole",
    "locks": "whether file locks work",
    "write_rate": "how fast a large file is written and synced",
    "sync_time": "how long a small file takes to be synced",
    "clock": "the clock of the node against that of the file server",
    "memory": "the computed memory of a rank and of a node against that of the GPU and the job",
    "packages": "the installed packages against those of the run",
    "port": "whether a port is free",
    "address": "the addresses of a node of several, and whether the others reach it",
    "deepspeed": "whether DeepSpeed would compile anything at the start",
    "compiler": "the compiler that training.compile needs",
    "mlflow": "whether the MLflow of the recipe answers",
    "gpu_count": "the number of GPUs",
    "gpu_model": "their model against cluster.training.accelerator",
    "gpu_memory": "whether somebody else holds their memory",
    "gpu_ecc": "uncorrectable memory errors, and rows that could not be remapped",
    "gpu_xid": "errors of the hardware in the kernel's log",
    "gpu_throttling": "clocks lowered by heat or by the power supply",
    "gpu_peers": "whether the GPUs reach one another's memory",
    "host_to_device": "the rate of a copy from host memory to each GPU",
    "all_reduce": "the bus bandwidth of an all-reduce over the GPUs of a node",
}
OF_GPUS = tuple(
    name for name in NAMES if name.startswith("gpu_") or name in ("host_to_device", "all_reduce")
)


class Checks(Section):
    """The checks of `pipeline check`, of which a short form precedes each attempt of the training."""

    skip: list[str] = Field(
        default=[],
        description=f"checks to skip. Any of {', '.join(NAMES)}",
    )
    write_mb_s: float = Field(
        default=50.0,
        gt=0,
        description="lowest rate of writing to the workspace, in MB/s, that gives no warning",
    )
    sync_seconds: float = Field(
        default=1.0,
        gt=0,
        description="longest time to sync a small file in the workspace, in seconds, without a warning",
    )
    clock_seconds: float = Field(
        default=5.0,
        gt=0,
        description="largest difference between the clocks of a node and of the file server, in seconds, "
        "without a warning",
    )
    gpu_used_gb: float = Field(
        default=2.0,
        gt=0,
        description="largest memory of a GPU in use before training starts, in GB, without a warning. Only "
        "with device: cuda",
    )
    host_to_device_gb_s: float = Field(
        default=23.0,
        gt=0,
        description="lowest rate of a copy from pinned host memory to a GPU of a good node, in GB/s: 23 "
        "on PCIe 4.0 x16. Only with device: cuda",
    )
    all_reduce_gb_s: float = Field(
        default=228.0,
        gt=0,
        description="lowest bus bandwidth of an all-reduce over the GPUs of a good node, in GB/s: "
        "228 for 8 A100s with NVLink, 460 for 8 H100s. Only with device: cuda",
    )

    @field_validator("skip")
    @classmethod
    def _known(cls, skip: list[str]) -> list[str]:
        for name in skip:
            if name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, 1)
                hint = f"did you mean {near[0]}?" if near else f"the checks are {', '.join(NAMES)}"
                raise ValueError(f"there is no check {name!r:.80}; {hint}")
        return skip
