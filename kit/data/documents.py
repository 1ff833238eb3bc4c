"""The number of documents in the shards, and whether it is enough to go on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kit.data.shards import PARTS
from kit.errors import InputError
from kit.store import manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.config.recipe import Recipe
    from kit.data.shards import Shard


def number(shards: Sequence[Shard], part: str) -> int:
    """The number of documents in one part of the shards."""
    counts = (manifest.read(shard.folder, "jobs.preprocess")["counts"] for shard in shards)
    return sum(count[part].get("documents", 0) for count in counts)


def refuse_too_few(recipe: Recipe, shards: Sequence[Shard]) -> None:
    """Raise InputError if the corpus is empty, or if all of its documents are held out, or none."""
    refuse_empty(recipe, shards)
    train, held_out = (number(shards, part) for part in PARTS)
    if not (train and held_out):
        missing = "is held out" if train else "is left for training"
        raise InputError(
            f"corpus.held_out={recipe.corpus.held_out}: none of the {train + held_out} documents "
            f"{missing}; change it, or add more text"
        )


def refuse_empty(recipe: Recipe, shards: Sequence[Shard]) -> None:
    """Raise InputError if no document is left, with what left them out."""
    if not any(number(shards, part) for part in PARTS):
        raise InputError(
            f"corpus.sources: the corpus is empty: {_fate(recipe, shards)}; add text, or relax "
            "corpus.filters"
        )


def _fate(recipe: Recipe, shards: Sequence[Shard]) -> str:
    """What became of the documents that were read, in words."""
    total: Counter[str] = Counter()
    for shard in shards:
        steps = manifest.read(shard.folder, "jobs.preprocess")["steps"]
        total.update({name: step.get("documents", 0) for name, step in steps.items()})
    if not total["read"]:
        return f"{', '.join(recipe.corpus.sources)}: no text"
    left_out = ", ".join(
        f"{name.removeprefix('left out: ')} {count:,}"
        for name, count in total.most_common()
        if name.startswith("left out")
    )
    return f"of {total['read']:,} documents all are left out ({left_out})"
