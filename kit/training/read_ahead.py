"""Reads the next micro-batch while the device computes with the present one.

Which one is next follows from the sample number (kit/training/batches.py), so there is no state to save. At
the start, and after a rollback, another one is asked for, which is read at once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from concurrent.futures import Future

    from torch import Tensor

    from kit.training.batches import Batches
    from kit.training.device import Device


class ReadAhead:
    """One rank's micro-batches, one of them ahead."""

    def __init__(self, batches: Batches, device: Device) -> None:
        self._batches, self._device = batches, device
        # A thread has a current GPU of its own; with the first one it would start a context there.
        self._thread = ThreadPoolExecutor(1, "read ahead", device.select)
        self._ahead: tuple[tuple[int, int], Future[Tensor]] | None = None

    def read(self, sample: int, micro: int) -> Tensor:
        """As `Batches.read`, in memory that the device copies from without a wait."""
        if self._ahead is None or self._ahead[0] != (sample, micro):
            self._begin(sample, micro)
        assert self._ahead is not None
        blocks = self._ahead[1].result()
        if micro + 1 < self._batches.accumulation:
            self._begin(sample, micro + 1)
        else:
            self._begin(sample + self._batches.global_batch, 0)
        return blocks

    def close(self) -> None:
        """Read no further."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self, sample: int, micro: int) -> None:
        self._ahead = (sample, micro), self._thread.submit(self._staged, sample, micro)

    def _staged(self, sample: int, micro: int) -> Tensor:
        return self._device.staged(torch.from_numpy(self._batches.read(sample, micro)))
