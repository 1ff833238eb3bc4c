"""What the trials on a real Slurm share: submitting the demo's recipe, and finding its processes."""

from __future__ import annotations

from pathlib import Path

from kit.store.files import read_json
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from tests.relay import DEMO, FP32, ROOT, wait_until
from tests.warm import light as command

CLUSTER = str(ROOT / "sbatch" / "slurm" / "cluster.yaml")
WHOLE = ("--nodes=2", "--gpus-per-node=8", "--exclusive")  # all there is
ALONE = "cluster.training.ranks_per_node=1"  # where nothing depends on two ranks agreeing
PATIENCE = 600  # seconds: a machine with other work takes its time


def submit(workspace: Path, *overrides: str, job: str = "pipeline") -> tuple[Run, dict[str, str]]:
    """Submit to the test cluster; returns the run and the ids of its jobs."""
    where = (f"workspace={workspace}", FP32, "--cluster", CLUSTER)
    command(job, "submit", str(DEMO), *overrides, *where)
    name = next((o.removeprefix("name=") for o in overrides if o.startswith("name=")), "demo")
    run = Workspace(workspace).run(name)
    return run, read_json(run.jobs)["slurm"]


def processes_of(job: str, restarts: int = 0) -> dict[int, int]:
    """The process ids of the ranks of one start of a job, by rank: both nodes are this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        program = _text(path / "cmdline").split("\0")
        lines = _text(path / "environ").split("\0")
        variables = dict(line.split("=", 1) for line in lines if "=" in line)
        start = (variables.get("SLURM_JOB_ID"), variables.get("SLURM_RESTART_COUNT", "0"))
        is_rank = "kit.cluster.task" in program and program[0] != "srun"
        if is_rank and start == (job, str(restarts)):
            found[int(variables["SLURM_PROCID"])] = int(path.name)
    return found


def is_on_a_node(job: str) -> bool:
    """Whether a node still has a step of a job, its batch script included."""
    titles = (path / "cmdline" for path in Path("/proc").glob("[0-9]*"))
    return any(_text(title).startswith(f"slurmstepd: [{job}.") for title in titles)


def wait_for_attempt(run: Run, attempt: int, steps: int = 3) -> None:
    """Wait until an attempt has made so many steps."""

    def made() -> bool:
        rows = ledger.rows(run.attempt(attempt))
        return sum(row["kind"] == "step" for row in rows) >= steps

    wait_until(made, f"{steps} steps of attempt {attempt}", PATIENCE)


def wait_for_checkpoint(run: Run) -> None:
    """Wait until a checkpoint is committed: some steps after the one that it is of."""
    wait_until(lambda: bool(run.committed_checkpoints()), "a checkpoint", PATIENCE)


def _text(path: Path) -> str:
    """A file of /proc; empty where the process has just ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
