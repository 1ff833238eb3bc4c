"""Which blocks a rank reads at a step: a function, with no state to save (rule: a sample is a function)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kit.data import tokens
from kit.errors import ConfigError, InputError

if TYPE_CHECKING:
    from kit.config.recipe import Recipe, Training
    from kit.data.tokens import TokenStream


@dataclass(frozen=True)
class Batches:
    """The blocks of a training set as one rank sees them."""

    row: TokenStream
    length: int  # tokens of a block
    global_batch: int
    micro_batch: int
    rank: int
    ranks: int
    seed: int

    @property
    def blocks(self) -> int:
        """Blocks of the training set."""
        return self.row.blocks(self.length)

    @property
    def accumulation(self) -> int:
        """Micro-batches of a rank in a step."""
        return self.global_batch // (self.micro_batch * self.ranks)

    def first_sample(self, sample: int, micro: int) -> int:
        """The rank's first sample of a micro-batch, in a step that begins with number `sample`."""
        return sample + (micro * self.ranks + self.rank) * self.micro_batch

    def read(self, sample: int, micro: int) -> np.ndarray:
        """Blocks and the token after each, int64, shape [micro_batch, length + 1]; as `first_sample`."""
        first = self.first_sample(sample, micro)
        return np.stack(
            [
                self.row.block(tokens.sample_block(sample, self.blocks, self.seed), self.length)
                for sample in range(first, first + self.micro_batch)
            ]
        )


def training_batches(recipe: Recipe, row: TokenStream, rank: int, ranks: int) -> Batches:
    """The batches of a recipe on one rank.

    Raises ConfigError where the global batch cannot be shared evenly, InputError where the training
    set has no whole block.
    """
    training = recipe.training
    check_shares(training, ranks)
    length = recipe.model.n_positions
    check_blocks(row, length)
    return Batches(
        row, length, training.global_batch, training.micro_batch, rank, ranks, training.seed
    )


def check_shares(training: Training, ranks: int) -> None:
    """Raises ConfigError where so many ranks cannot share the global batch evenly."""
    if training.global_batch % (training.micro_batch * ranks):
        raise ConfigError(
            f"training.global_batch={training.global_batch} is no multiple of micro_batch x ranks = "
            f"{training.micro_batch} x {ranks}; change one of the three"
        )


def check_blocks(row: TokenStream, length: int) -> None:
    """Raises InputError where the training set has no whole block of `length` tokens."""
    if row.blocks(length) < 1:
        raise InputError(
            f"corpus.sources: {len(row)} training tokens are no block of model.n_positions={length}; "
            "give more text, or shorter blocks"
        )


def validation_blocks(recipe: Recipe, row: TokenStream) -> int:
    """How many blocks of the held-out part are validated. Raises InputError where there is none."""
    blocks = row.blocks(recipe.model.n_positions)
    if blocks < 1:
        raise InputError(
            f"corpus.held_out={recipe.corpus.held_out}: {len(row)} held-out tokens are no block of "
            f"model.n_positions={recipe.model.n_positions}; raise it, or give more text"
        )
    return min(blocks, recipe.training.validation_blocks or blocks)
