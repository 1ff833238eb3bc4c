"""Encode shards into token files, and show a block of tokens as text.

python -m jobs.tokenize run demo
python -m jobs.tokenize inspect demo 0
python -m jobs.tokenize inspect demo 1000 --sample
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command import Json, OfRecipe, main, print_json, verb
from jobs.stage import stage_app
from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.tokenizer.blocks import Block

app = stage_app(
    "tokenize",
    "Encode the shards into token files; show a block of tokens as text.",
    "Encode the shards into token files",
)

# So that a negative number is refused as a block, not as an unknown option.
_NUMBERS = {"ignore_unknown_options": True}


@verb(app, "inspect", "demo 1000 --sample", settings=_NUMBERS)
def inspect_verb(
    arguments: OfRecipe,
    number: Annotated[int, typer.Argument(metavar="BLOCK", help="Number of the block, from 0.")],
    sample: Annotated[
        bool, typer.Option("--sample", help="BLOCK is the number of a sample in training order.")
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Show a block of the held-out documents.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a block of n_positions tokens as text, its location, and the token after it."""
    from kit.data import shards
    from kit.tokenizer import blocks

    if sample and held_out:
        raise ConfigError(
            "--sample, --held-out: samples are of the training part only; give one of the two options"
        )
    recipe = arguments.load(refuse=sample)
    part = shards.HELD_OUT if held_out else shards.TRAIN
    block = (
        blocks.read_sample(recipe, number) if sample else blocks.read_block(recipe, number, part)
    )
    if as_json:
        print_json(asdict(block))
    else:
        _show(block)


def _show(block: "Block") -> None:
    if block.sample is not None:
        print(f"sample {block.sample} of the run is")
    print(f"block {block.block} of {block.blocks} of {block.part}, counted from 0")
    print(
        f"tokens {block.start:,} to {block.stop - 1:,}, from document {block.document} of {block.shard}"
    )
    print(f"\n{block.text}\n")
    print(f"the token after it: {block.next}")


if __name__ == "__main__":
    main(app)
