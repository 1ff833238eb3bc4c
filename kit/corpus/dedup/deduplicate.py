"""The second pass of deduplication: list the documents with the fingerprint of an earlier one."""

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

VERSION = 1  # raise when the same fingerprints give other lists


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit per bucket. Raises StageError until all units have their fingerprints."""
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
    """Run a submitted task; it reads nothing but the run directory."""
    make_units("deduplicate", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def later_duplicates(
    fingerprints: np.ndarray[Any, Any], keys: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The keys, ascending, of all fingerprints except the one with the smallest key of each value.

    `fingerprints` has shape (n, 2), `keys` shape (n,), both uint64.
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
        fingerprints = np.fromfile(path, "<u8").reshape(-1, duplicates.WIDTH // 8)
        in_bucket = np.flatnonzero(
            (fingerprints[:, 0] >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32) == bucket
        )
        values.append(fingerprints[in_bucket])
        keys.append(in_bucket.astype("<u8") | np.uint64(unit << 32))
    listed = later_duplicates(np.concatenate(values), np.concatenate(keys))
    with atomic(folder / duplicates.LIST) as out:
        out.write(listed.tobytes())
    return {"documents": len(listed)}
