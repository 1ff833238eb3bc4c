"""What the tests of whole relays share: running a command as a user does, and reading a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kit.tracking import ledger
from kit.training import checkpoint
from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from kit.store.paths import Run

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs" / "demo.yaml"
# For a recipe that is only read: its own workspace may hold the run that `make demo` left.
NOWHERE = "workspace=/nowhere"
# What `auto` is on a CPU, and quick on any: bf16 and fp16 only where they are what is tested.
FP32 = "training.precision=fp32"
# The demo's training, as short as a model that beats a unigram model allows.
SHORT = (
    "training.steps=40",
    "training.checkpoint_every=15",
    "training.validate_every=10",
    "training.warmup_steps=4",
    "training.learning_rate=5.0e-3",
    "model.n_layer=1",
    "model.dropout=0.1",  # its randomness must leave no trace either
    FP32,
)
# For a run that only has to be alive, and whose ranks tests/warm.py does not fork: its file system is slow,
# and the other tests have the processor.
SLOW = f"cluster.environment.PYTHONPATH={ROOT / 'tests' / 'slow_files'}"
# Training of which a second shows what is to be seen: what takes the time is the start of the ranks.
TINY = (
    FP32,
    "model.n_layer=1",
    "model.n_embd=32",
    "model.n_positions=64",
    "training.validation_blocks=8",
    "tracking.mlflow=null",
    "tracking.tensorboard=false",
)


def command(module: str, *arguments: str, code: int = 0) -> str:
    """Run `python -m jobs.MODULE ARGUMENTS`, check its exit code, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{module}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def make_tokens(workspace: Path) -> None:
    """From the demo's raw texts to its tokens."""
    for job in ("download", "preprocess", "tokenizer", "tokenize"):
        command(job, "run", str(DEMO), f"workspace={workspace}", "tracking.mlflow=null")


def copy_of(workspace: Path, folder: Path) -> Path:
    """A workspace of one's own, in a folder that may be there."""
    return Path(shutil.copytree(workspace, folder, symlinks=True, dirs_exist_ok=True))


def wait_until(
    holds: Callable[[], bool], what: str, seconds: float = 300, every: float = 0.2
) -> None:
    """Wait until something holds; fails after so many seconds of the tests' machine."""
    end = time.monotonic() + patience(seconds)
    while not holds():
        assert time.monotonic() < end, f"no {what} in {patience(seconds):.0f} s"
        time.sleep(every)


def wait_for_step(run: Run, step: int) -> None:
    """Wait until the ledger has that step."""
    wait_until(lambda: any(row["step"] >= step for row in ledger.canonical(run)), f"step {step}")


def final_files(run: Run) -> dict[str, str]:
    """The files of the last checkpoint and their hashes: equal for equal weights and optimizer."""
    return {
        name: record["xxh3"]
        for name, record in checkpoint.committed(run)[0].record["files"].items()
    }


def curve(run: Run) -> list[ledger.Row]:
    """The canonical ledger without what differs from machine to machine."""
    return ledger.comparable(ledger.canonical(run))


def log_of(run: Run, job: str) -> str:
    """What a job has printed, in all its starts."""
    return "".join(path.read_text() for path in run.job_logs(job).glob("*.out"))
