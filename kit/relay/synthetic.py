"""Synthetic tokens for a rehearsal without a corpus.

    recipe = synthetic_recipe(recipe)  # the same model and batch, in a workspace of its own
    make(recipe, steps, ranks)         # random tokens, enough for the steps

They are in `WORKSPACE/synthetic/NAME`, a workspace whose only source is `synthetic`: training reads it
like any other, and a recipe with real texts cannot mistake it for its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.config.recipe import Recipe, Source
from kit.data import shards, tokens
from kit.errors import RunError
from kit.plan.shape import vocab_size
from kit.store import manifest
from kit.store.files import write_json
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "synthetic"
_MAX_TOKENS = 1 << 26  # beyond that, training repeats blocks in another order
_CHUNK = 1 << 20  # tokens generated at a time
_SPECIAL = {"begin": 1, "end": 2}  # ids: any two different ones


def workspace_of(recipe: Recipe) -> Workspace:
    """The workspace of a recipe's synthetic tokens."""
    return Workspace(Path(recipe.workspace)).synthetic(recipe.name)


def synthetic_recipe(recipe: Recipe) -> Recipe:
    """The recipe over synthetic tokens, with the same model, batch and vocabulary."""
    root = workspace_of(recipe).root
    source = Source(kind="plaintext", location=str(root / f"{_NAME}.txt"))
    corpus = recipe.corpus.model_copy(
        update={
            "sources": {_NAME: source},
            "filters": recipe.corpus.filters.model_copy(
                update={"duplicates": False, "near_duplicates": None}
            ),
        }
    )
    return recipe.model_copy(update={"workspace": str(root), "corpus": corpus})


def make(recipe: Recipe, steps: int, ranks: int) -> None:
    """Write the workspace of `synthetic_recipe`: blocks for the steps and a validation by the ranks."""
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
        shards.TRAIN: max(1, min(steps * training.global_batch, _MAX_TOKENS // length)),
        shards.HELD_OUT: training.validation_blocks or ranks,
    }
    for unit in tokens.expected(recipe):
        unit.folder.mkdir(parents=True)
        sizes = {
            part: _write(tokens.token_file(unit.folder, part), number * length + 1, recipe)
            for part, number in blocks.items()
        }
        _commit(unit.folder, unit.causes, tokens=sizes, counts={})


def remove(workspace: Workspace) -> None:
    """Remove synthetic tokens and the runs trained on them. Raises RunError for any other folder."""
    if not workspace.root.exists():
        return
    if not workspace.synthetic_mark.is_file():
        raise RunError(
            f"{workspace.root}: does not hold synthetic tokens; move it, or give the recipe another name="
        )
    shutil.rmtree(workspace.root)


def _commit(folder: Path, causes: Any, **facts: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest.commit(folder, causes, **facts)


def _write(path: Path, size: int, recipe: Recipe) -> int:
    """Write `size` random tokens; returns their number."""
    return tokens.write(path, _random(size, recipe), _dtype(recipe))


def _random(size: int, recipe: Recipe) -> Iterator[bytes]:
    entries, generator = vocab_size(recipe), np.random.default_rng(recipe.training.seed)
    for start in range(0, size, _CHUNK):
        ids = generator.integers(0, entries, min(_CHUNK, size - start))
        yield ids.astype(_dtype(recipe)).tobytes()


def _dtype(recipe: Recipe) -> np.dtype[np.unsignedinteger]:
    return tokens.dtype_for(vocab_size(recipe))
