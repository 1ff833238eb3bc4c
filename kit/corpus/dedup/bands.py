"""The second pass over near-duplicates: the pairs of documents with an equal hash, bucket by bucket."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.data import near_duplicates, shards
from kit.store import manifest
from kit.store.files import atomic, text_hash
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from kit.data.near_duplicates import Bucket
    from kit.store.paths import Run

    Array = np.ndarray[Any, Any]

VERSION = 1  # raise when the same signatures give other pairs


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit per bucket. Raises StageError until all units have their signatures."""
    workspace = Workspace(Path(recipe.workspace))
    folders = [workspace.signatures(piece["name"]) for piece in shards.pieces(recipe)]
    buckets = near_duplicates.buckets(recipe, [folder.name for folder in folders])
    hashes = [manifest.fingerprint(folder, "jobs.preprocess") for folder in folders]
    inputs = {"signatures": f"{text_hash(' '.join(hashes)):016x}"}
    return [
        Unit(
            f"bucket {number + 1} of {len(buckets)}",
            workspace.band(number),
            manifest.causes("bands", VERSION, bucket._asdict(), inputs),
            functools.partial(_make, folders, bucket),
        )
        for number, bucket in enumerate(buckets)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    make_units("bands", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def _make(folders: list[Path], bucket: Bucket, folder: Path) -> Mapping[str, Any]:
    import numpy as np

    from kit.corpus.dedup.pairs import repeated

    hashes, documents = [np.zeros(0, "<u8")], [np.zeros(0, "<u8")]
    for unit, signatures in enumerate(folders):
        values, first = _in_bucket(signatures, bucket)
        hashes.append(values)
        documents.append(first.astype("<u8") | np.uint64(unit << 32))
    values, first = np.concatenate(hashes), np.concatenate(documents)
    order = np.argsort(values, kind="stable")
    _, pairs = repeated(values[order], first[order])
    with atomic(folder / near_duplicates.PAIRS) as out:
        out.write(pairs.tobytes())
    return {"pairs": len(pairs)}


def _in_bucket(folder: Path, bucket: Bucket) -> tuple[Array, Array]:
    """The hashes of a unit that lie in a bucket, ascending, and the first document of each."""
    import numpy as np

    sizes = manifest.read(folder, "jobs.preprocess")["bands"]
    begin, size = sum(sizes[: bucket.band]), sizes[bucket.band]
    if not size:
        return np.zeros(0, "<u8"), np.zeros(0, "<u4")
    hashes = np.memmap(folder / near_duplicates.HASHES, "<u8", "r")[begin : begin + size]
    first = np.memmap(folder / near_duplicates.FIRST, "<u4", "r")[begin : begin + size]
    low = np.searchsorted(hashes, np.uint64(bucket.begin))
    high = np.searchsorted(hashes, np.uint64(bucket.end - 1), "right")
    return hashes[low:high].copy(), first[low:high].copy()
