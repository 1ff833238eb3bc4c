"""Synthetic tokens: a rehearsal's, before any text is there.

    recipe = stand_in(recipe)        # the same model and batch, in a workspace of its own
    make(recipe, steps, ranks)       # random tokens, enough for so many steps

They lie in `WORKSPACE/synthetic/NAME`, a workspace with the one source `synthetic`: training reads it as
it reads any other, and no recipe with texts of its own can take it for its workspace.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.config.recipe import Recipe, Source
from kit.data import shards, tokens
from kit.errors import RunError
from kit.store import manifest
from kit.store.files import write_json
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "synthetic"
_MOST = 1 << 26  # tokens: beyond that, training reads blocks again, in another order
_CHUNK = 1 << 20  # tokens made at a time
_SPECIAL = {"begin": 1, "end": 2}  # ids: any two that are not the same


def place(recipe: Recipe) -> Workspace:
    """The workspace of a recipe's synthetic tokens."""
    return Workspace(Path(recipe.workspace)).synthetic(recipe.name)


def synthetic_recipe(recipe: Recipe) -> Recipe:
    """The recipe over synthetic tokens: the model, batch and vocabulary are its own."""
    where = place(recipe).root
    source = Source(kind="plaintext", location=str(where / f"{_NAME}.txt"))
    corpus = recipe.corpus.model_copy(
        update={
            "sources": {_NAME: source},
            "filters": recipe.corpus.filters.model_copy(update={"duplicates": False}),
        }
    )
    return recipe.model_copy(update={"workspace": str(where), "corpus": corpus})


def vocab_size(recipe: Recipe) -> int:
    """The entries of the recipe's tokenizer; of several candidates the most."""
    return max(vocabulary.vocab_size for vocabulary in recipe.tokenizer.specs())


def make(recipe: Recipe, steps: int, ranks: int) -> None:
    """Write the workspace of `stand_in`: blocks for the steps, and for a validation by the ranks."""
    workspace = Workspace(Path(recipe.workspace))
    write_json(workspace.synthetic_mark, {"recipe": recipe.name})
    text = recipe.corpus.sources[_NAME].location
    piece = {"name": _NAME, "kind": "plaintext", "path": text}
    _commit(workspace.raw(_NAME), {"stage": _NAME}, pieces=[piece])
    for shard in shards.expected(recipe):
        _commit(shard.folder, shard.causes, counts={})
    facts = {"size": vocab_size(recipe), **_SPECIAL}
    _commit(workspace.tokenizer, tokens.tokenizer_causes(recipe), vocabulary=facts)
    length, training = recipe.model.n_positions, recipe.training
    blocks = {
        shards.TRAIN: max(1, min(steps * training.global_batch, _MOST // length)),
        shards.HELD_OUT: training.validation_blocks or ranks,
    }
    for unit in tokens.expected(recipe):
        unit.folder.mkdir(parents=True)
        made = {
            part: _write(tokens.token_file(unit.folder, part), number * length + 1, recipe)
            for part, number in blocks.items()
        }
        _commit(unit.folder, unit.causes, tokens=made, counts={})


def remove(workspace: Workspace) -> None:
    """Remove synthetic tokens and what was trained on them. Raises RunError for another folder."""
    if not workspace.root.exists():
        return
    if not workspace.synthetic_mark.is_file():
        raise RunError(
            f"{workspace.root}: holds no synthetic tokens; move it, or give the recipe another name="
        )
    shutil.rmtree(workspace.root)


def _commit(folder: Path, causes: Any, **facts: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest.commit(folder, causes, **facts)


def _write(path: Path, size: int, recipe: Recipe) -> int:
    """So many random tokens; returns how many."""
    return tokens.write(path, _random(size, recipe), _dtype(recipe))


def _random(size: int, recipe: Recipe) -> Iterator[bytes]:
    entries, generator = vocab_size(recipe), np.random.default_rng(recipe.training.seed)
    for start in range(0, size, _CHUNK):
        drawn = generator.integers(0, entries, min(_CHUNK, size - start))
        yield drawn.astype(_dtype(recipe)).tobytes()


def _dtype(recipe: Recipe) -> np.dtype[np.unsignedinteger]:
    return tokens.dtype_for(vocab_size(recipe))
