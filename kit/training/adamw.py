"""AdamW as DeepSpeed's optimizers run it: an update that can be refused, and its step counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that asks before each update: by then DeepSpeed knows the gradient norm."""

    accept: Callable[[], bool] | None = None
    clip: float | None = None  # set if DeepSpeed neither clips nor has the norm
    norm: float = 0.0

    def step(self, closure: Any = None) -> Any:
        """Update the weights, unless `accept` says no."""
        if self.clip is not None:
            parameters = [p for group in self.param_groups for p in group["params"]]
            self.norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.clip))
        if self.accept is not None and not self.accept():
            return None
        return super().step(closure)


def own_step_counters(optimizer: torch.optim.Optimizer) -> None:
    """Give each parameter a step counter of its own, on its device: DeepSpeed 0.19.8 and torch may not.

    From a universal checkpoint DeepSpeed takes them as they are in the file, on the CPU, and torch leaves
    them there if a CPU saved them: fused AdamW on a GPU refuses such counters. Under ZeRO-3 a universal
    checkpoint gives one tensor to all groups, and each group's update would advance it: AdamW's bias
    correction would use a wrong step.
    """
    for parameter, state in optimizer.state.items():
        state["step"] = state["step"].clone().to(parameter.device)
