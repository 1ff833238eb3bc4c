"""Exact duplicates in the corpus: the files that two passes of array jobs write for the third.

The first pass writes a fingerprint of 16 bytes for each document of a unit. In the second, each task takes
a bucket, the fingerprints of one range of values, and lists every document with the fingerprint of an
earlier one. A list of documents is a sorted array of `unit << 32 | document`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from kit.errors import StageError
from kit.store import manifest
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kit.config.recipe import Recipe

FINGERPRINTS, LIST = "fingerprints.bin", "duplicates.bin"
WIDTH = 16  # bytes of a fingerprint, xxh3-128: a collision among 10^9 documents has p = 10^-21
_BUCKET = 4_000_000  # documents of a bucket: 0.3 GB of memory for the task that sorts them


def buckets(recipe: Recipe, units: Sequence[str]) -> int:
    """The number of buckets. Raises StageError before the first pass is complete."""
    workspace = Workspace(Path(recipe.workspace))
    remedy = "jobs.preprocess"
    documents: int = sum(
        manifest.read(workspace.fingerprints(unit), remedy)["documents"] for unit in units
    )
    return 1 + documents // _BUCKET


def lists(recipe: Recipe, units: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """The list of each bucket, memory-mapped. Raises StageError before the second pass is complete."""
    workspace = Workspace(Path(recipe.workspace))
    return [read_list(workspace.duplicates(bucket)) for bucket in range(buckets(recipe, units))]


def read_list(folder: Path) -> np.ndarray[Any, Any]:
    """The list in a folder, memory-mapped. Raises StageError if it is missing or truncated."""
    import numpy as np

    size = manifest.read(folder, "jobs.preprocess")["outputs"][LIST]["size"]
    path = folder / LIST
    if not path.is_file() or path.stat().st_size != size:
        raise StageError(f"{path}: missing or truncated; run ekiden preprocess again")
    return np.memmap(path, "<u8", "r") if size else np.zeros(0, "<u8")


def of_unit(lists: Sequence[np.ndarray[Any, Any]], unit: int) -> np.ndarray[Any, Any]:
    """The sorted numbers of a unit's documents in any of the lists."""
    import numpy as np

    keys = [_slice(keys, unit) for keys in lists]
    return np.sort(np.concatenate(keys) & np.uint64(0xFFFFFFFF)) if keys else np.zeros(0, "<u8")


def digests(lists: Sequence[np.ndarray[Any, Any]], units: int) -> list[str]:
    """A hash of each unit's duplicates, as a cause of its shard."""
    hashes = []
    for unit in range(units):
        digest = xxhash.xxh3_128()
        for keys in lists:
            digest.update(_slice(keys, unit).tobytes())
        hashes.append(digest.hexdigest())
    return hashes


def _slice(keys: np.ndarray[Any, Any], unit: int) -> np.ndarray[Any, Any]:
    import numpy as np

    first, last = np.searchsorted(keys, np.array([unit << 32, (unit + 1) << 32], "<u8"))
    return keys[first:last]
