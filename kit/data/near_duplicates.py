"""Near-duplicates in the corpus: the files that three jobs write, each for the next.

    signatures   for each document of a unit a hash for each band; equal in one band is a pair
    bands        the pairs in one bucket: a band's hashes in one range of values, over all units
    clusters     which documents the pairs connect, and the one of them that stays

A document is `unit << 32 | document`, its number in the unit, as in kit/data/duplicates.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kit.data import duplicates
from kit.store import manifest
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kit.config.filters import NearDuplicates
    from kit.config.recipe import Recipe

# Of a unit: a band's different hashes, ascending, one band behind the other; the first document of each;
# the pairs within the unit; the characters of each document.
HASHES, FIRST, WITHIN, LENGTHS = "hashes.u64", "first.u32", "pairs.u32", "lengths.u32"
PAIRS = "pairs.u64"  # of a bucket, across units
KEPT = "kept.u64"  # for each document of the list the one that stays in its place
_BUCKET = 4_000_000  # hashes of a bucket: 0.2 GB of memory for the task that sorts them


class Bucket(NamedTuple):
    """The hashes of a band from `begin` to before `end`."""

    band: int
    begin: int
    end: int


def rule(recipe: Recipe) -> NearDuplicates:
    """The section of a recipe that removes near-duplicates."""
    section = recipe.corpus.filters.near_duplicates
    assert section is not None, "a stage that does not apply"
    return section


def buckets(recipe: Recipe, units: Sequence[str]) -> list[Bucket]:
    """All buckets, band by band. Raises StageError before the signatures are complete."""
    workspace = Workspace(Path(recipe.workspace))
    documents = sum(
        manifest.read(workspace.signatures(unit), "jobs.preprocess")["documents"] for unit in units
    )
    ranges = 1 + documents // _BUCKET
    bounds = [(number << 64) // ranges for number in range(ranges + 1)]
    return [
        Bucket(band, bounds[number], bounds[number + 1])
        for band in range(rule(recipe).bands)
        for number in range(ranges)
    ]


def removed(recipe: Recipe) -> np.ndarray[Any, Any]:
    """The sorted documents to leave out. Raises StageError before the clusters are complete."""
    return duplicates.read_list(Workspace(Path(recipe.workspace)).near_duplicates)
