"""AdamW as DeepSpeed's optimizers run it: an update that can be refused, and its step counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kit.plan.memory import MOMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from kit.training.verdict import Verdict


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that clips and asks before each update: by then DeepSpeed knows the gradient norm."""

    judge: Callable[[], Verdict] | None = None
    clip: Callable[[Sequence[Tensor]], None] | None = None  # set if DeepSpeed does not clip
    building = False  # while DeepSpeed is built around it
    with_one_moment = 0  # the number of weights that Muon updates

    def step(self, *_: object) -> None:  # type: ignore[override]
        """Update the weights, unless `judge` refuses it.

        A GPU decides by itself if the weights are there.
        """
        if self.building:
            # In bf16 without ZeRO DeepSpeed has it make its states by a step of zero gradients: that would
            # decay the weights, and count, which bends the bias correction of the first real steps.
            return
        parameters = [p for group in self.param_groups for p in group["params"]]
        if self.clip is not None:
            self.clip(parameters)
        if self.judge is None:
            self._update(None)
            return
        verdict = self.judge()
        if self._decides(verdict, parameters):
            self._update(verdict.refused)
        elif verdict.is_good:
            self._update(None)

    def moments(self, group: dict[str, Any]) -> int:  # noqa: ARG002  those of Muon differ
        """The number of values that the state of a group has for each weight."""
        return MOMENTS

    def _update(self, refused: Tensor | None) -> None:
        """Update the weights; if `refused`, 1 or 0 on their device, is 1, change nothing."""
        if refused is None:
            super().step()
            return
        # As torch.amp.GradScaler calls it; the kernel changes nothing, step counters included.
        self.found_inf = refused
        try:
            super().step()
        finally:
            del self.found_inf

    def _decides(self, verdict: Verdict, parameters: Sequence[Tensor]) -> bool:
        """Whether the device takes the verdict: with the fused kernel, and weights that are there."""
        fused = all(group["fused"] for group in self.param_groups)
        return fused and all(p.device == verdict.refused.device for p in parameters)


def own_step_counters(optimizer: torch.optim.Optimizer) -> None:
    """Give each parameter a step counter of its own, on its device: DeepSpeed 0.19.8 and torch may not.

    From a universal checkpoint DeepSpeed takes them as they are in the file, on the CPU, and torch leaves
    them there if a CPU saved them: fused AdamW on a GPU refuses such counters. Under ZeRO-3 a universal
    checkpoint gives one tensor to all groups, and each group's update would advance it: AdamW's bias
    correction would use a wrong step.
    """
    for parameter, state in optimizer.state.items():
        state["step"] = state["step"].clone().to(parameter.device)
