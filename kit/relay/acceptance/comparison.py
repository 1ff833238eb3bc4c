"""Two runs of one recipe, compared at their ends: weights bit by bit, and losses step by step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.store.files import read_json, write_json
from kit.store.paths import Run
from kit.tracking import ledger

if TYPE_CHECKING:
    from kit.tracking.rows import StepRow

NAME = "compare"


def ask(run: Run, other: Run) -> None:
    """Name the run with which `work` compares another."""
    write_json(_other(run), {"run": str(other.root)})


def work(run: Run, task: int, tasks: int) -> None:  # noqa: ARG001  as of every job
    """Compare, in a process that may load torch."""
    write_json(_result(run), compare(Run(Path(read_json(_other(run))["run"])), run))


def answer(run: Run) -> dict[str, Any]:
    """The result of `work`."""
    found: dict[str, Any] = read_json(_result(run))
    return found


def compare(one: Run, other: Run) -> dict[str, Any]:
    """Whether both ended alike; the largest differences, and the first step with another loss."""
    rows = zip(_steps(one), _steps(other), strict=True)
    pairs = [(a["step"], _loss(a), _loss(b)) for a, b in rows]
    first = next((step for step, a, b in pairs if a != b), None)
    by_weights = _difference(one, other)
    return {
        "equal": by_weights == 0 and first is None,
        "weights": by_weights,
        "losses": max(abs(a - b) for _, a, b in pairs),
        "first": first,
    }


def _steps(run: Run) -> list[StepRow]:
    return [row for row in ledger.canonical(run) if row["kind"] == "step"]


def _loss(row: StepRow) -> float:
    return math.inf if row["loss"] is None else row["loss"]


def _difference(one: Run, other: Run) -> float:
    """The largest difference between the weights of the last checkpoints, in fp32."""
    import torch

    from kit.training import checkpoint, weights

    ends = (checkpoint.final(run, "jobs.train") for run in (one, other))
    first, second = (
        weights.read(end.state, torch.float32, end.ensure_intact_and_own) for end in ends
    )
    return max(
        float((value.float() - second[name].float()).abs().max()) for name, value in first.items()
    )


def _other(run: Run) -> Path:
    return run.job_logs(NAME) / "other.json"


def _result(run: Run) -> Path:
    return run.job_logs(NAME) / "result.json"
