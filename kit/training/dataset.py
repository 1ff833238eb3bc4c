"""The blocks of a training set, or of its held-out part, as a torch Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kit.data import tokens

if TYPE_CHECKING:
    from kit.data.tokens import TokenStream


class BlockDataset(Dataset[Tensor]):
    """Blocks in the order of the corpus; `row` has the same tokens in numpy.

    Blocks are read on access and not cached: a DataLoader may shuffle them, and use several workers.
    """

    def __init__(self, row: TokenStream, length: int, seed: int) -> None:
        """`length`: tokens per block; `seed`: of the training order."""
        self.row, self.length, self.seed = row, length, seed

    def __len__(self) -> int:
        return self.row.blocks(self.length)

    def __getitem__(self, index: int) -> Tensor:
        """Block `index` and the token after it, int64, shape [length + 1]. Raises IndexError."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        return torch.from_numpy(self.row.block(index % len(self), self.length))

    def sample(self, number: int) -> Tensor:
        """Sample `number` of the run, counted from 0 over ranks and steps; like `__getitem__`."""
        return self[tokens.sample_block(number, len(self), self.seed)]
