"""The blocks that a rank reads at a step: a pure function of the sample number, with no state to save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.data import tokens
from kit.errors import ConfigError, InputError
from kit.output.quantities import count

if TYPE_CHECKING:
    import numpy as np

    from kit.config.recipe import Recipe, Training
    from kit.data.tokens import TokenStream


@dataclass(frozen=True)
class Batches:
    """One rank's view of the training set."""

    stream: TokenStream
    length: int  # tokens of a block
    global_batch: int
    micro_batch: int
    rank: int
    ranks: int
    seed: int

    @property
    def blocks(self) -> int:
        """Number of blocks in the training set."""
        return self.stream.blocks(self.length)

    @property
    def accumulation(self) -> int:
        """Micro-batches per rank and step."""
        return self.global_batch // (self.micro_batch * self.ranks)

    def first_sample(self, sample: int, micro: int) -> int:
        """This rank's first sample of a micro-batch, in the step that begins with sample `sample`."""
        return sample + (micro * self.ranks + self.rank) * self.micro_batch

    def read(self, sample: int, micro: int) -> np.ndarray:
        """A micro-batch of blocks, each with the token after it: int64, shape [micro_batch, length + 1]."""
        import numpy as np

        first = self.first_sample(sample, micro)
        return np.stack(
            [
                self.stream.block(tokens.sample_block(sample, self.blocks, self.seed), self.length)
                for sample in range(first, first + self.micro_batch)
            ]
        )


def training_batches(recipe: Recipe, stream: TokenStream, rank: int, ranks: int) -> Batches:
    """A recipe's batches on one of `ranks` ranks.

    Raises ConfigError if the ranks cannot share the global batch evenly, InputError if the training
    set is shorter than a block.
    """
    training = recipe.training
    check_shares(training, ranks)
    length = recipe.model.n_positions
    check_blocks(stream, length)
    return Batches(
        stream, length, training.global_batch, training.micro_batch_size, rank, ranks, training.seed
    )


def check_shares(training: Training, ranks: int) -> None:
    """Raise ConfigError if `ranks` ranks cannot share the global batch evenly."""
    if training.global_batch % (training.micro_batch_size * ranks):
        raise ConfigError(
            f"training.global_batch={training.global_batch} is not a multiple of micro_batch x ranks = "
            f"{training.micro_batch} x {ranks}; change one of the three"
        )


def check_blocks(stream: TokenStream, length: int) -> None:
    """Raise InputError if the training set has no whole block of `length` tokens."""
    if stream.blocks(length) < 1:
        raise InputError(
            f"corpus.sources: {count(len(stream), 'training token')}, less than a block of "
            f"model.n_positions={length}; add text, or lower model.n_positions"
        )


def validation_blocks(recipe: Recipe, stream: TokenStream) -> int:
    """The number of held-out blocks to validate on. Raises InputError if there is none."""
    blocks = stream.blocks(recipe.model.n_positions)
    if blocks < 1:
        raise InputError(
            f"corpus.held_out={recipe.corpus.held_out}: {count(len(stream), 'held-out token')}, less than "
            f"a block of model.n_positions={recipe.model.n_positions}; raise corpus.held_out, or add text"
        )
    return min(blocks, recipe.training.validation_blocks or blocks)
