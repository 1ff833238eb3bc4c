"""Shards into token files, and a block of them as text.

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
from kit.relay.submit import say

if TYPE_CHECKING:
    from kit.tokenizer.blocks import Block

app = stage_app(
    "tokenize",
    "Shards into token files, and a block of them as text.",
    "Encode the shards into token files",
)

# A negative number is an argument, to be refused for what it is.
_NUMBERS = {"ignore_unknown_options": True}


@verb(app, "inspect", "demo 1000 --sample", settings=_NUMBERS)
def inspect_verb(
    arguments: OfRecipe,
    number: Annotated[int, typer.Argument(metavar="BLOCK", help="From 0.")],
    sample: Annotated[
        bool, typer.Option("--sample", help="The number is a sample's, in the order of the run.")
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Of the documents kept from training.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a block of n_positions tokens as text, where it lies, and the token after it."""
    from kit.data import shards
    from kit.tokenizer import blocks

    if sample and held_out:
        raise ConfigError(
            "--sample, --held-out: a sample is of the training part; give one of them"
        )
    recipe = arguments.load(refuse=sample)
    part = shards.HELD_OUT if held_out else shards.TRAIN
    found = blocks.of_sample(recipe, number) if sample else blocks.of_number(recipe, number, part)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)


def _show(found: "Block") -> None:
    if found.sample is not None:
        say(f"sample {found.sample} of the run is")
    say(f"block {found.block} of {found.blocks} of {found.part}, counted from 0")
    say(
        f"tokens {found.start:,} to {found.stop - 1:,}, from document {found.document} of {found.shard}"
    )
    say(f"\n{found.text}\n")
    say(f"the token after it: {found.next}")


if __name__ == "__main__":
    main(app)
