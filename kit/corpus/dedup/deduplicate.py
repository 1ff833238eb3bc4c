"""The second pass over the corpus for duplicates: which documents have an earlier one's fingerprint."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import duplicates, shards
from kit.store import manifest
from kit.store.files import atomic
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from kit.store.paths import Run

VERSION = 1  # raise when the same fingerprints come to give other lists


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit a bucket. Raises StageError before the fingerprints of all units are there."""
    workspace = Workspace(Path(recipe.workspace))
    names = [piece["name"] for piece in shards.pieces(recipe)]
    count = duplicates.buckets(recipe, names)
    inputs = {
        name: manifest.fingerprint(workspace.fingerprints(name), "jobs.preprocess")
        for name in names
    }
    files = [workspace.fingerprints(name) / duplicates.FINGERPRINTS for name in names]
    return [
        Unit(
            f"bucket {bucket + 1} of {count}",
            workspace.duplicates(bucket),
            manifest.causes("deduplicate", VERSION, {"bucket": bucket, "buckets": count}, inputs),
            functools.partial(_make, files, bucket, count),
        )
        for bucket in range(count)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """What a submitted task runs; the run directory is all it reads."""
    make_units("deduplicate", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def repeated(
    fingerprints: np.ndarray[Any, Any], keys: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The keys, in order, of all fingerprints but the one with the smallest key of each value.

    `fingerprints` is of shape (n, 2), `keys` of shape (n,), both uint64.
    """
    import numpy as np

    order = np.lexsort((keys, fingerprints[:, 1], fingerprints[:, 0]))
    ordered = fingerprints[order]
    again = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1)) + 1
    return np.sort(keys[order[again]])


def _make(files: list[Path], bucket: int, buckets: int, folder: Path) -> Mapping[str, Any]:
    import numpy as np

    values, keys = [np.zeros((0, 2), "<u8")], [np.zeros(0, "<u8")]
    for unit, path in enumerate(files):
        found = np.fromfile(path, "<u8").reshape(-1, duplicates.WIDTH // 8)
        here = np.flatnonzero(
            (found[:, 0] >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32) == bucket
        )
        values.append(found[here])
        keys.append(here.astype("<u8") | np.uint64(unit << 32))
    made = repeated(np.concatenate(values), np.concatenate(keys))
    with atomic(folder / duplicates.LIST) as out:
        out.write(made.tobytes())
    return {"documents": len(made)}
