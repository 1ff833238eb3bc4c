"""A block of tokens as text, to inspect the input of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kit.data import shards, tokenizer_file, tokens
from kit.errors import ConfigError
from kit.store.paths import Workspace

if TYPE_CHECKING:
    from kit.config.recipe import Recipe


@dataclass(frozen=True)
class Block:
    """A block, its position in the stream of all tokens, and its text."""

    part: str  # shards.TRAIN or HELD_OUT
    block: int
    blocks: int  # of the part
    sample: int | None  # of the run, if selected by sample
    start: int  # position of its first token
    stop: int  # and of the token after it
    shard: str  # of its first token
    document: int  # of its first token, counted from 0 in its shard
    text: str  # with `</s>` at the end of a document
    next: str  # the token after it


def read_block(recipe: Recipe, number: int, part: str) -> Block:
    """Read block `number` of a part. Raises ConfigError if out of range, StageError without tokens."""
    stream = tokens.open_part(tokens.complete(recipe), part, recipe)
    return _read(recipe, stream, part, number)


def read_sample(recipe: Recipe, sample: int) -> Block:
    """Read the training block that is sample `sample` of the run. Raises as `read_block`."""
    training, length = recipe.training, recipe.model.n_positions
    stream = tokens.open_part(tokens.complete(recipe), shards.TRAIN, recipe)
    blocks = stream.blocks(length)
    samples = training.steps_over(blocks) * training.global_batch if blocks else 0
    _check("sample", sample, samples, f"in the run's {training.steps_over(blocks)} steps")
    number = tokens.sample_block(sample, blocks, training.seed)
    return _read(recipe, stream, shards.TRAIN, number, sample)


def _read(
    recipe: Recipe, stream: tokens.TokenStream, part: str, number: int, sample: int | None = None
) -> Block:
    length = recipe.model.n_positions
    blocks = stream.blocks(length)
    _check("block", number, blocks, f"of {length} tokens in {part}, which has {len(stream)} tokens")
    start = number * length
    location = stream.locate(start)
    *ids, following = stream.block(number, length).tolist()
    tokenizer = tokenizer_file.load(Workspace(Path(recipe.workspace)).tokenizer)
    return Block(
        part=part,
        block=number,
        blocks=blocks,
        sample=sample,
        start=start,
        stop=start + length,
        shard=location.file.parent.name,
        document=location.document,
        text=tokenizer.decode(ids, skip_special_tokens=False),
        next=tokenizer.id_to_token(following) or f"no entry: {following}",
    )


def _check(kind: str, number: int, count: int, scope: str) -> None:
    if not count:
        raise ConfigError(f"{kind} {number}: there are no {kind}s {scope}; add more text")
    if not 0 <= number < count:
        raise ConfigError(
            f"{kind} {number}: there are {count} {kind}s {scope}; give 0 to {count - 1}"
        )
