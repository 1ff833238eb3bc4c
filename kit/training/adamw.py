"""AdamW as DeepSpeed's optimizers run it: an update that can be refused, and its step counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from kit.training.verdict import Verdict


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that clips and asks before each update: by then DeepSpeed knows the gradient norm."""

    judge: Callable[[], Verdict] | None = None
    clip: Callable[[Sequence[Tensor]], None] | None = None  # set if DeepSpeed does not clip

    def step(self, closure: Any = None) -> Any:
        """Update the weights, unless `judge` refuses it.

        A GPU decides by itself, in the kernel, if the weights are there.
        """
        parameters = [p for group in self.param_groups for p in group["params"]]
        if self.clip is not None:
            self.clip(parameters)
        if self.judge is None:
            return super().step(closure)
        verdict = self.judge()
        if self._decides(verdict, parameters):
            return self._unless(verdict.refused, closure)
        return super().step(closure) if verdict.is_good else None

    def _decides(self, verdict: Verdict, parameters: Sequence[Tensor]) -> bool:
        """Whether the kernel takes the verdict: the fused one, with weights that are not offloaded."""
        fused = all(group["fused"] for group in self.param_groups)
        return fused and all(p.device == verdict.refused.device for p in parameters)

    def _unless(self, refused: Tensor, closure: Any) -> Any:
        # As torch.amp.GradScaler calls it; the kernel changes nothing, step counters included.
        self.found_inf = refused
        try:
            return super().step(closure)
        finally:
            del self.found_inf


def own_step_counters(optimizer: torch.optim.Optimizer) -> None:
    """Give each parameter a step counter of its own, on its device: DeepSpeed 0.19.8 and torch may not.

    From a universal checkpoint DeepSpeed takes them as they are in the file, on the CPU, and torch leaves
    them there if a CPU saved them: fused AdamW on a GPU refuses such counters. Under ZeRO-3 a universal
    checkpoint gives one tensor to all groups, and each group's update would advance it: AdamW's bias
    correction would use a wrong step.
    """
    for parameter, state in optimizer.state.items():
        state["step"] = state["step"].clone().to(parameter.device)
