"""One run at step 10, and one that has come to step 1,000,000 without the years that takes.

The second is the first with every counter raised: that of the checkpoint's record, those in
DeepSpeed's files, and a ledger of a million steps over twenty attempts.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from kit.store.files import file_hash, read_json, write_json
from kit.tracking import ledger
from kit.training import checkpoint
from tests.benchmarks import runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.store.paths import Run

_EARLY, _LATE, _ATTEMPTS = 10, 1_000_000, 20
_COUNTERS = {"step", "global_steps", "global_samples", "samples", "sample", "validated"}


def at_ten(folder: Path) -> Run:
    """Train ten steps to the end, and make the run's end two million."""
    run = runs.make(
        folder,
        "young",
        f"training.steps={_EARLY}",
        f"training.checkpoint_every={_EARLY}",
        f"training.validate_every={_EARLY}",
    )
    with runs.attempt(run) as program:
        for process in program.processes:
            if process.wait() != 0:
                raise RuntimeError(f"{run.root}: exit code {process.returncode}")
    recipe = read_json(run.recipe)
    recipe["training"] |= {"steps": 2 * _LATE}
    write_json(run.recipe, recipe)
    return run


def at_a_million(folder: Path, young: Run) -> Run:
    """The same run, later."""
    run = runs.make(folder, "old")
    recipe = read_json(young.recipe)
    write_json(run.recipe, recipe | {"name": "old"})
    factor = _LATE // _EARLY
    (source,) = young.committed_checkpoints()
    target = run.checkpoint(_LATE, _ATTEMPTS)
    shutil.copytree(source, target)
    _age_checkpoint(target, factor)
    if young.mlflow_cursor.is_file():
        cursor = read_json(young.mlflow_cursor)
        write_json(run.mlflow_cursor, cursor | {"sent": dict.fromkeys(cursor["sent"], _LATE)})
    rows = list(ledger.rows(young.attempt(1)))
    steps = _LATE // _ATTEMPTS
    for number in range(1, _ATTEMPTS + 1):
        attempt = run.attempt(number)
        attempt.root.mkdir(parents=True)
        first = (number - 1) * steps
        start = read_json(young.attempt(1).start)
        write_json(attempt.start, start | {"from_step": first})
        with attempt.ledger.open("w", encoding="utf-8") as stream:
            stream.writelines(_life(rows, number, first, first + steps))
        end = read_json(young.attempt(1).end) | {"outcome": "interrupted", "step": first + steps}
        write_json(attempt.end, end)
    return run


def forget_last_attempt(run: Run) -> None:
    """Remove what the last attempt has written, so that the next one finds what it found."""
    last = run.claimed_attempts()[-1]
    shutil.rmtree(last.root)
    for events in run.tensorboard.glob(f"*attempt-{last.number:04d}"):
        events.unlink()


def _age_checkpoint(folder: Path, factor: int) -> None:
    """Multiply every counter of a checkpoint, and hash its files again."""
    import torch

    record = read_json(folder / "checkpoint.json")
    files = record.pop("files")
    record = _aged(record, factor)
    for name in files:
        (path,) = folder.rglob(name)
        torch.save(_aged(torch.load(path, weights_only=False), factor), path)
        files[name] = {"size": path.stat().st_size, "xxh3": file_hash(path)}
    record.pop("xxh3")
    write_json(folder / "checkpoint.json", checkpoint.sealed(record | {"files": files}))


def _aged(value: Any, factor: int, name: str = "") -> Any:
    if isinstance(value, dict):
        return type(value)((key, _aged(value[key], factor, str(key))) for key in value)
    return value * factor if name in _COUNTERS else value


def _life(rows: list[dict[str, Any]], attempt: int, first: int, last: int) -> Iterator[str]:
    """The lines of an attempt's ledger, after the pattern of a short one's."""
    pattern = {row["kind"]: row | {"attempt": attempt} for row in rows}

    def line(kind: str, step: int) -> str:
        return json.dumps(pattern[kind] | {"step": step}) + "\n"

    yield line("attempt", first)
    for step in range(first + 1, last + 1):
        yield line("step", step)
        if step % (10 * _EARLY) == 0:
            yield line("validation", step)
        if step % (100 * _EARLY) == 0:
            yield line("checkpoint", step)
    yield line("end", last)
