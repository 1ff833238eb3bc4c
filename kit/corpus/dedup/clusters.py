"""The third pass over near-duplicates: which documents pairs connect, and which of them are left out.

Pairs are read some at a time and reduced at once to a tree of each cluster, so that memory grows with the
number of near-duplicates and not with that of pairs, or of documents.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.config.recipe import Recipe
from kit.config.section import read_resolved
from kit.corpus.dedup import bands, signatures
from kit.data import duplicates, near_duplicates
from kit.store import manifest
from kit.store.files import atomic, text_hash
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from kit.store.paths import Run

    Array = np.ndarray[Any, Any]

VERSION = 1  # raise when the same pairs give another list
_PAIRS = 1_000_000  # read before they are reduced, at least


def units(run: Run, recipe: Recipe) -> list[Unit]:
    """The only unit. Raises StageError until all buckets have their pairs."""
    of_units, of_buckets = signatures.units(run, recipe), bands.units(run, recipe)
    folders = [unit.folder for unit in (*of_units, *of_buckets)]
    hashes = [manifest.fingerprint(folder, "jobs.preprocess") for folder in folders]
    inputs = {"pairs": f"{text_hash(' '.join(hashes)):016x}"}
    return [
        Unit(
            "near-duplicates",
            Workspace(Path(recipe.workspace)).near_duplicates,
            manifest.causes("clusters", VERSION, {}, inputs),
            functools.partial(_make, of_units, of_buckets),
        )
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    make_units("clusters", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def _make(of_units: Sequence[Unit], of_buckets: Sequence[Unit], folder: Path) -> Mapping[str, Any]:
    import numpy as np

    from kit.corpus.dedup.pairs import clusters, left_out

    require([*of_units, *of_buckets], "jobs.preprocess")
    found = np.zeros((0, 2), "<u8")
    waiting: list[Array] = []
    for pairs in _pairs(of_units, of_buckets):
        waiting.append(pairs)
        if sum(map(len, waiting)) >= max(_PAIRS, len(found)):
            found = clusters(np.concatenate([found, *waiting]))
            waiting = []
    found = clusters(np.concatenate([found, *waiting]))
    rows = left_out(found, _lengths(of_units, found[:, 0]))
    for name, column in ((duplicates.LIST, rows[:, 0]), (near_duplicates.KEPT, rows[:, 1])):
        with atomic(folder / name) as out:
            out.write(column.astype("<u8").tobytes())
    return {"documents": len(rows), "clusters": len(found) - len(rows)}


def _pairs(of_units: Sequence[Unit], of_buckets: Sequence[Unit]) -> Iterator[Array]:
    """The pairs within each unit, then those of each bucket, uint64 [pairs, 2]."""
    import numpy as np

    for number, unit in enumerate(of_units):
        within = np.fromfile(unit.folder / near_duplicates.WITHIN, "<u4").reshape(-1, 2)
        yield within.astype("<u8") | np.uint64(number << 32)
    for unit in of_buckets:
        yield np.fromfile(unit.folder / near_duplicates.PAIRS, "<u8").reshape(-1, 2)


def _lengths(of_units: Sequence[Unit], documents: Array) -> Array:
    """The characters of each of these documents, which are sorted."""
    import numpy as np

    bounds = np.searchsorted(documents, np.arange(len(of_units) + 1, dtype="<u8") << np.uint64(32))
    lengths = np.zeros(len(documents), np.uint32)
    for unit, first, last in zip(of_units, bounds[:-1], bounds[1:], strict=True):
        if first < last:
            column = np.memmap(unit.folder / near_duplicates.LENGTHS, "<u4", "r")
            lengths[first:last] = column[documents[first:last] & np.uint64(0xFFFFFFFF)]
    return lengths
