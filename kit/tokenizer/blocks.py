"""A block of tokens as text: what training sees, to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.data import shards, tokens
from kit.errors import ConfigError
from kit.store.paths import Workspace
from kit.tokenizer import huggingface

if TYPE_CHECKING:
    from kit.config.recipe import Recipe


@dataclass(frozen=True)
class Block:
    """A block, where it lies in the row of all tokens, and its text."""

    part: str  # shards.TRAIN or HELD_OUT
    block: int
    blocks: int  # of the part
    sample: int | None  # of the run, where that was asked for
    start: int  # position of its first token
    stop: int  # and of the token after it
    shard: str  # of its first token
    document: int  # of its first token, counted from 0 in its shard
    text: str  # `</s>` where a document ends
    next: str  # the token after it


def of_number(recipe: Recipe, number: int, part: str) -> Block:
    """Block `number` of a part. Raises ConfigError where there is none, StageError before the tokens."""
    row = tokens.open_part(tokens.complete(recipe), part, recipe)
    return _read(recipe, row, part, number)


def of_sample(recipe: Recipe, sample: int) -> Block:
    """The training block that is sample `sample` of the run. Raises as `of_number`."""
    training, length = recipe.training, recipe.model.n_positions
    row = tokens.open_part(tokens.complete(recipe), shards.TRAIN, recipe)
    blocks = row.blocks(length)
    samples = training.steps_over(blocks) * training.global_batch if blocks else 0
    _check("sample", sample, samples, f"in the run's {training.steps_over(blocks)} steps")
    number = tokens.sample_block(sample, blocks, training.seed)
    return _read(recipe, row, shards.TRAIN, number, sample)


def _read(
    recipe: Recipe, row: tokens.TokenStream, part: str, number: int, sample: int | None = None
) -> Block:
    length = recipe.model.n_positions
    blocks = row.blocks(length)
    _check("block", number, blocks, f"of {length} tokens in {part}, which has {len(row)}")
    start = number * length
    place = row.locate(start)
    *ids, following = row.block(number, length).tolist()
    tokenizer = huggingface.load(Workspace(Path(recipe.workspace)).tokenizer)
    return Block(
        part=part,
        block=number,
        blocks=blocks,
        sample=sample,
        start=start,
        stop=start + length,
        shard=place.file.parent.name,
        document=place.document,
        text=tokenizer.decode(ids, skip_special_tokens=False),
        next=tokenizer.id_to_token(following) or f"no entry: {following}",
    )


def _check(what: str, number: int, count: int, where: str) -> None:
    if not count:
        raise ConfigError(f"{what} {number}: there is none {where}; give more text")
    if not 0 <= number < count:
        raise ConfigError(f"{what} {number}: there are {count} {where}; give 0 to {count - 1}")
