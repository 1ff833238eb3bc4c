"""The course of a chaos run: the demo's recipe, shrunk, and the uninterrupted run it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.store.files import file_hash
from kit.store.paths import Run, Workspace
from kit.tracking import ledger
from kit.training import checkpoint
from tests.relay import DEMO, FP32, command, curve, make_tokens
from tests.speed import patience

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A step of some 0.1 s on two cores; a checkpoint of 33 MB, and validations of some steps' length, so
# that both are there to be hit. Saves and validations fall together at one step in 35 only.
VALIDATE_EVERY = 7
OVERRIDES = (
    "model.n_embd=256",
    "model.n_positions=64",
    "training.global_batch=8",
    "training.micro_batch=2",
    f"training.validate_every={VALIDATE_EVERY}",
    "training.checkpoint_every=5",
    "training.save_tries=1000",
    "training.save_pause=1",
    f"training.health.hang_seconds={patience(10):.0f}",
    f"training.health.start_seconds={patience(90):.0f}",
    FP32,
    "tracking.mlflow=null",
    "tracking.tensorboard=false",
)
DROPOUT = "model.dropout=0.1"  # its randomness must leave no trace either


def overrides(given: Sequence[str]) -> tuple[str, ...]:
    """The overrides of both runs, `given` last; a Llama has no dropout."""
    is_llama = "model.architecture=llama" in given
    return (*OVERRIDES, *(() if is_llama else (DROPOUT,)), *given)


@dataclass(frozen=True)
class Course:
    """A workspace with tokens, and what all its runs have in common."""

    workspace: Path
    steps: int
    overrides: tuple[str, ...]
    watched: tuple[str, ...] = ()  # of the interrupted run only

    def arguments(self, name: str, *more: str) -> list[str]:
        """The arguments of a command for the run of that name."""
        steps = f"training.steps={self.steps}"
        return [
            str(DEMO), f"workspace={self.workspace}", f"name={name}", steps, *self.overrides, *more,
        ]  # fmt: skip

    def run(self, name: str) -> Run:
        """The run directory of that name."""
        return Workspace(self.workspace).run(name)

    def prepare(self) -> None:
        """From the dump to tokens."""
        make_tokens(self.workspace)

    def reference(self) -> Run:
        """Train without an interruption."""
        command("train", "run", *self.arguments("reference"))
        run = self.run("reference")
        assert len(ledger.attempts(run)) == 1, "the reference was interrupted"
        return run


def differences(run: Run, reference: Run) -> dict[str, bool]:
    """Whether two finished runs are equal: bit for bit, but for times in the ledger."""
    (weights, optimizer), (others, other_optimizer) = _final(run), _final(reference)
    return {
        "weights_equal": weights == others,
        "optimizer_equal": optimizer == other_optimizer,
        "ledger_equal": curve(run) == curve(reference),
    }


def _final(run: Run) -> tuple[dict[str, str], dict[str, str]]:
    """Hashes of the last checkpoint's files as they lie on the disk: the weights', and all others."""
    last = checkpoint.final(run, "chaos")
    names = [last.state / name for name in last.record["files"]]
    hashes = {path.name: file_hash(path) for path in names}
    weights = {name for name in hashes if name.endswith("model_states.pt")}
    optimizer = hashes.keys() - weights
    assert weights, f"{last.folder}: no weights"
    assert optimizer, f"{last.folder}: no optimizer"
    return {n: hashes[n] for n in weights}, {n: hashes[n] for n in optimizer}
