"""A run in Python: its tokens, documents, ledger and weights, for your notebook or script.

Each function takes the path of a run directory, whether the run is finished or in progress, and only reads.
If the data is missing, or has changed since the run began, it raises a subclass of `EkidenError` that names
the job to run. docs/library.md has examples.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kit.data import shards
from kit.errors import CheckpointError, ConfigError
from kit.relay import resolve

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from pandas import DataFrame

    from kit.training.dataset import BlockDataset


def tokens(run: str | os.PathLike[str], part: str = shards.TRAIN) -> BlockDataset:
    """The training blocks as a torch Dataset; with `part` "held-out", the validation blocks.

    An item is a block and the token after it, int64, shape [n_positions + 1]. `sample(g)` is sample g of
    the run, in training order; `row` has the tokens in numpy.

    >>> from kit import library
    >>> data = library.tokens("work/demo/runs/demo")
    >>> len(data)
    600
    >>> block = data[0]
    >>> block.dtype, block.shape
    (torch.int64, torch.Size([129]))
    >>> inputs, labels = block[:-1], block[1:]

    In shuffled batches of eight blocks:

    >>> from torch.utils.data import DataLoader
    >>> next(iter(DataLoader(data, batch_size=8, shuffle=True))).shape
    torch.Size([8, 129])

    In numpy: any slice of all tokens, and the memory-mapped files.

    >>> len(data.row)
    76848
    >>> data.row.slice(0, 4).dtype
    dtype('int64')
    >>> data.row.files[0].dtype
    dtype('uint16')
    """

    from kit.data import tokens
    from kit.training.dataset import BlockDataset

    recipe = resolve.read_run(Path(run)).recipe
    row = tokens.open_part(tokens.complete(recipe), _known(part), recipe)
    return BlockDataset(row, recipe.model.n_positions, recipe.training.seed)


def documents(
    run: str | os.PathLike[str], part: str = shards.TRAIN, *, segmented: bool = False
) -> Iterator[str]:
    """The documents of the run's shards, in corpus order, as plain text.

    With `segmented`, in the form of a shard: one sentence per line, a space between words.

    >>> from kit import library
    >>> texts = list(library.documents("work/demo/runs/demo", "held-out"))
    >>> len(texts)
    8
    >>> texts[0].splitlines()[0]
    '早瀬佳奈子'
    >>> next(library.documents("work/demo/runs/demo", "held-out", segmented=True)).split()[:3]
    ['早瀬', '佳奈子', '␤']
    """
    recipe = resolve.read_run(Path(run)).recipe
    files = [shards.part_file(shard.folder, _known(part)) for shard in shards.complete(recipe)]
    texts = (text for file in files for text in shards.texts(file))
    return texts if segmented else (shards.plain_text(text.split("\n")) for text in texts)


def ledger(run: str | os.PathLike[str], kind: Literal["step", "validation"] = "step") -> DataFrame:
    """The run's curve as a pandas DataFrame, one row per step; with `kind` "validation", per validation.

    Each step appears once, even if the run was interrupted; empty before the first step. Raises ConfigError
    if pandas is not installed.

    >>> from kit import library
    >>> curve = library.ledger("work/demo/runs/demo")
    >>> curve.index.name, curve.index.is_unique
    ('step', True)
    >>> round(float(curve.loss[1]), 1)  # chance level: ln 2,000
    7.6
    >>> validations = library.ledger("work/demo/runs/demo", "validation")
    >>> validations.index.tolist()[:2], round(float(validations.validation_loss[0]), 1)
    ([0, 25], 7.6)
    """
    from kit.tracking import ledger

    return ledger.frame(resolve.read_run(Path(run)).run, kind)


def model(run: str | os.PathLike[str], step: int | None = None) -> Any:
    """The weights of a checkpoint as a transformers model on the CPU, in the dtype of the release.

    Takes the newest checkpoint, or that of `step`. Raises CheckpointError if it is missing or damaged.

    >>> import torch
    >>> from kit import library
    >>> model = library.model("work/demo/runs/demo")
    >>> type(model).__name__
    'GPT2LMHeadModel'
    >>> block = library.tokens("work/demo/runs/demo", "held-out")[0]
    >>> with torch.no_grad():
    ...     logits = model(block[None, :-1]).logits
    >>> logits.shape
    torch.Size([1, 128, 2000])
    """
    from kit.release import loaded, model_files
    from kit.release.source import ReleaseSource
    from kit.training import checkpoint

    project = resolve.read_run(Path(run))
    directory, recipe = project.run, project.recipe
    failed = None
    while True:
        chosen = (
            checkpoint.final(directory, "jobs.train")
            if step is None
            else checkpoint.of_step(directory, step, "step")
        )
        try:
            model = loaded.load_model(recipe, ReleaseSource(directory, chosen, directory))
        except (CheckpointError, FileNotFoundError):
            if chosen == failed:
                raise
            failed = chosen  # a run in progress removes old checkpoints: retry with a newer one
        else:
            model_files.set_generation(model, recipe.release)
            return model


def _known(part: str) -> str:
    if part not in shards.PARTS:
        raise ConfigError(f"part={part!r}: give {' or '.join(map(repr, shards.PARTS))}")
    return part
