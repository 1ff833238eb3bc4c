"""The first pass of deduplication: the fingerprint of every document of a unit."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from kit.config.defaults import NonDefaults
from kit.config.recipe import Corpus, Recipe
from kit.config.section import read_resolved
from kit.corpus import documents
from kit.corpus.bad_input import BadInput
from kit.data import duplicates, shards
from kit.store import manifest
from kit.store.files import atomic
from kit.store.paths import Workspace
from kit.store.units import Unit, make_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.store.paths import Run
    from kit.store.records import Piece

VERSION = 2  # raise when the same documents give other fingerprints
_CAUSES = {"mode", "on_bad_input", "wikipedia"}  # keys that decide which documents there are


def units(_: Run, recipe: Recipe) -> list[Unit]:
    """One unit per piece of the raw text. Raises StageError until the download is complete."""
    workspace = Workspace(Path(recipe.workspace))
    section = NonDefaults(recipe.corpus, frozenset(Corpus.model_fields.keys() - _CAUSES))
    return [
        Unit(
            piece["name"],
            workspace.fingerprints(piece["name"]),
            manifest.causes("fingerprint", VERSION, section, shards.piece_causes(piece)),
            functools.partial(_make, recipe, piece),
        )
        for piece in shards.pieces(recipe)
    ]


def work(run: Run, task: int, tasks: int) -> None:
    """Run a submitted task; it reads nothing but the run directory."""
    make_units("fingerprint", units(run, read_resolved(run.recipe, Recipe)), task, tasks)


def _make(recipe: Recipe, piece: Piece, folder: Path) -> Mapping[str, Any]:
    bad_input = BadInput(recipe.corpus.on_bad_input)
    count = 0
    with atomic(folder / duplicates.FINGERPRINTS) as out:
        for lines in documents.read(piece, bad_input, recipe.corpus.mode, recipe.corpus.wikipedia):
            out.write(xxhash.xxh3_128_digest("\n".join(lines).encode()))
            count += 1
    return {"documents": count, "faults": dict(sorted(bad_input.counts.items()))}
