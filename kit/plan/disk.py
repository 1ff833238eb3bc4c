"""Disk space of a run: all of it at its end, and whether there is room for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kit.config.recipe import Recipe
    from kit.config.training import Training

ITEM = {"bfloat16": 2, "float32": 4}  # bytes of a weight in a release
# Measured with the demo, bytes a step: a row of the ledger and its points in TensorBoard's files; ten
# metrics in MLflow's sqlite file, with their indexes.
LEDGER, MLFLOW = 930, 3_300


class Room(NamedTuple):
    """Space that a run may fill, in bytes, and whose it is."""

    name: str
    bytes: int
    source: str


def checkpoints_kept(training: Training, steps: int) -> int:
    """Checkpoints on disk at the end of `steps` steps; one more while it is written."""
    return training.keep + (steps // training.keep_every if training.keep_every else 0)


def release_bytes(recipe: Recipe, parameters: int) -> int:
    """The weights of a release; its other files are small."""
    return parameters * ITEM[recipe.release.dtype]


def record_bytes(recipe: Recipe, steps: int) -> int:
    """The ledger, and the files that show it."""
    return steps * (LEDGER + (MLFLOW if recipe.tracking.mlflow else 0))


def to_write(at_end: Mapping[str, float], on_disk: Mapping[str, int]) -> float:
    """Bytes that a run still adds to those that it has on the disk."""
    return sum(max(0.0, size - on_disk.get(name, 0)) for name, size in at_end.items())


def verdict(needed: float, room: int, unknown: Sequence[str]) -> str:
    """Whether there is room."""
    if needed > room:
        return "it does NOT fit"
    return f"it fits, without {', '.join(unknown)}" if unknown else "it fits"
