"""A step's losses and gradient norm: judged on the device, and read by the host once.

    verdict = Verdict(device, losses, norm, Limits())
    ...                                 # an update that `verdict.refused` prevents, queued
    (loss, *z_loss), norm = verdict.read()      # waits until they are known, not for the update

A GPU goes on to the update and the gathering of the weights without the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from kit.training.device import Device


@dataclass(frozen=True)
class Limits:
    """The largest loss and gradient norm of a good step; both are finite in any case."""

    loss: float = math.inf
    gradient_norm: float = math.inf


class Verdict:
    """Whether a step is good. On a CPU and a GPU the same comparisons of the same numbers in fp64."""

    def __init__(self, device: Device, losses: Tensor, norm: Tensor, limits: Limits) -> None:
        """`losses` [1 or 2] and `norm` are on the device; a norm below 0 is one that is not finite.

        The first loss, the cross-entropy, is judged. z-loss, the second, has the gradient norm to judge it:
        limits mean the same with z-loss and without.
        """
        losses, norm = losses.double(), norm.double()
        loss = losses[0]
        norm = norm.masked_fill(norm < 0, math.nan)  # `where` would copy the number, and wait
        good = torch.isfinite(loss) & torch.isfinite(norm)
        good &= (loss <= limits.loss) & (norm <= limits.gradient_norm)
        self.refused = good.logical_not().float()  # 1 or 0: `found_inf` of fused AdamW
        self._fetched = device.fetch(torch.hstack((losses, norm, self.refused.double())))

    def read(self) -> tuple[list[float], float]:
        """The losses, and the gradient norm: NaN or infinity if it is not finite."""
        *losses, norm, _ = self._values
        return losses, norm

    @property
    def is_good(self) -> bool:
        """Whether the update is to be made, for an update on the host."""
        return not self._values[-1]

    @cached_property
    def _values(self) -> list[float]:
        return self._fetched()
