"""Gradient clipping by the global norm: by DeepSpeed, or by our optimizer where DeepSpeed would wait.

Line numbers are those of DeepSpeed 0.19.8's `runtime/` folder. The norm is a tensor on the device in every
stage of ZeRO; with an offloaded optimizer it is computed on the host (zero/stage_1_and_2.py:1929).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kit.training.adamw import GuardedAdamW


class Clipping:
    """Clips the gradients of a DeepSpeed engine to a norm, and knows their norm before that."""

    def __init__(self, engine: Any, own: GuardedAdamW, limit: float) -> None:
        """`own` is the optimizer that DeepSpeed wraps."""
        self._optimizer, self._limit = engine.optimizer, limit
        self._norm: Tensor | None = None  # set if DeepSpeed has none
        self._deepspeeds = limit
        if engine.optimizer is own:  # fp32 without ZeRO: DeepSpeed has no norm
            engine._config.gradient_clipping = 0.0
            own.clip = self._clip_all
        elif hasattr(engine.optimizer, "partition_gradients") and not engine.fp16_enabled():
            # ZeRO-1 and 2 ask for each group of weights whether the norm is finite (:3203), for the second
            # one behind the update of the first. In fp16 they unscale and clip in one rounding.
            self._deepspeeds = 0.0
            own.clip = self._clip_partition
        self.restore()

    def restore(self) -> None:
        """Set DeepSpeed's limit, which loading a checkpoint overwrites."""
        if hasattr(self._optimizer, "clip_grad"):  # ZeRO's, and bf16's without ZeRO
            self._optimizer.clip_grad = self._deepspeeds

    def norm(self, device: torch.device) -> Tensor:
        """The norm of the last gradients before clipping, on the device; below 0 if it is not finite."""
        norm = self._optimizer._global_grad_norm if self._norm is None else self._norm
        if not isinstance(norm, torch.Tensor):  # DeepSpeed's infinity, of an overflow
            return torch.full((), norm, dtype=torch.float64, device=device)
        return norm.to(device)

    def _clip_all(self, parameters: Sequence[Tensor]) -> None:
        self._norm = torch.nn.utils.clip_grad_norm_(parameters, self._limit)

    def _clip_partition(self, parameters: Sequence[Tensor]) -> None:
        """As zero/stage_1_and_2.py:3193, bit for bit."""
        norm = self._optimizer._global_grad_norm
        factor = 1.0 / ((norm + 1e-6) / self._limit).clamp(min=1.0)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
