"""Muon's update of a matrix: its averaged gradient, orthogonalised by five steps of Newton and Schulz.

Singular vectors stay, and all singular values come near 1: Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/. By the scale of Liu et al. 2025 (arXiv 2502.16982, section 2.2)
the root mean square of an update is about AdamW's, 0.2: its learning rate and weight decay are a start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from kit.models.architecture import Fused

# Of a quintic polynomial, steep at 0: five steps bring singular values from (0, 1] to about 0.7 to 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5
_EPSILON = 1e-7  # of the norm: a gradient of zeros gives zeros
_RMS = 0.2


@dataclass(frozen=True)
class Matrix:
    """A weight of a layer, and how it holds several matrices."""

    rows: int
    columns: int
    fused: Fused | None = None

    @property
    def size(self) -> int:
        """The number of its values."""
        return self.rows * self.columns

    @property
    def scale(self) -> float:
        """The factor of the learning rate."""
        sides = [self.rows, self.columns]
        if self.fused:
            sides[self.fused.dim] //= self.fused.number
        return _RMS * math.sqrt(max(sides))


def working_dtype(device: torch.device) -> torch.dtype:
    """The format of the steps: bf16 on a GPU that has it, as published; a CPU is no quicker in it."""
    gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if gpu else torch.float32


def update(average: Tensor, matrix: Matrix) -> Tensor:
    """The direction of a weight's update, in the format of `average` [rows, columns].

    Each of the matrices that it holds is orthogonalised for itself.
    """
    if matrix.fused is None:
        return orthogonalised(average)
    dim, number = matrix.fused
    return torch.cat([orthogonalised(part) for part in average.chunk(number, dim)], dim)


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values of about 1.

    The products are of the smaller side's square. Every operation adds in an order that depends only on
    shape, device and threads, so that two ranks get the same bits from the same matrix.
    """
    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x: Tensor = wide / wide.norm().clamp(min=_EPSILON)
    for _ in range(_STEPS):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if wide is not matrix else x
