"""What the trials on a real Slurm share: submitting the demo's recipe, and finding its processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kit.files import read_json
from kit.tracking import ledger
from kit.workspace import Run, Workspace
from tests.relay import DEMO, ROOT, command, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = str(ROOT / "sbatch" / "slurm" / "cluster.yaml")
WHOLE = ("--nodes=2", "--gpus-per-node=8", "--exclusive")  # all there is
PATIENCE = 300  # seconds


def submit(workspace: Path, *overrides: str, job: str = "pipeline") -> tuple[Run, dict[str, str]]:
    """Submit to the test cluster; returns the run and the ids of its jobs."""
    command(job, "submit", str(DEMO), f"workspace={workspace}", *overrides, "--cluster", CLUSTER)
    name = next((o.removeprefix("name=") for o in overrides if o.startswith("name=")), "demo")
    run = Workspace(workspace).run(name)
    return run, read_json(run.jobs)["slurm"]


def processes_of(job: str, restarts: int = 0) -> dict[int, int]:
    """The process ids of the ranks of one start of a job, by rank: both nodes are this machine."""
    found = {}
    for pid, program, variables in _processes_of(job):
        is_rank = "submitit.core._submit" in program and program[0] != "srun"
        if is_rank and variables.get("SLURM_RESTART_COUNT", "0") == str(restarts):
            found[int(variables["SLURM_PROCID"])] = pid
    return found


def any_process_of(job: str) -> bool:
    """Whether any start of a job has a process, its batch shell and exit trap with them."""
    return any(True for _ in _processes_of(job))


def _processes_of(job: str) -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """Process id, command and environment of each process of a job."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            program = (path / "cmdline").read_text(errors="replace").split("\0")
            lines = (path / "environ").read_text(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        variables = dict(line.split("=", 1) for line in lines if "=" in line)
        if variables.get("SLURM_JOB_ID") == job:
            yield int(path.name), program, variables


def wait_for_attempt(run: Run, attempt: int, steps: int = 3) -> None:
    """Wait until an attempt has made so many steps."""

    def made() -> bool:
        rows = ledger.rows(run.attempt(attempt))
        return sum(row["kind"] == "step" for row in rows) >= steps

    wait_until(made, f"{steps} steps of attempt {attempt}", PATIENCE)
