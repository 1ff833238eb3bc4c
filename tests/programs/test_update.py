"""AdamW as a GPU runs it, in one fused kernel over ZeRO's flat fp32 partitions, against torch's plain one.

A CPU has that kernel too: the constructor, the partitions, and DeepSpeed's way to the kernel are those of a
GPU; the kernel itself is the CPU's. Under `zero2-offload` a GPU's run uses this very one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from kit.training import optimizer

from .test_engine import SCALED, STAGES, engine, state, step

if TYPE_CHECKING:
    from pathlib import Path

    from kit.config.training import Training
    from kit.training.adamw import GuardedAdamW
    from kit.training.engine import Engine
    from tests.conftest import Workdir

BETAS, EPSILON, RATE = (0.9, 0.95), 1e-8, 0.1  # of `workdir` and of `step`
# By stage: which of its optimizers DeepSpeed puts around ours, with gradients accumulated in fp32.
OPTIMIZERS = {
    "1": "DeepSpeedZeroOptimizer", "2": "DeepSpeedZeroOptimizer",
    "3": "DeepSpeedZeroOptimizer_Stage3",
}  # fmt: skip
OF_BF16 = OPTIMIZERS | {"1": "BF16_Optimizer"}


def ulps(found: torch.Tensor) -> torch.Tensor:
    """The spacing of fp32 numbers at each of them."""
    found = found.abs().clamp_min(torch.finfo(torch.float32).tiny)
    return torch.nextafter(found, torch.tensor(torch.inf)) - found


def last_update(moments: dict[str, torch.Tensor]) -> torch.Tensor:
    """What AdamW subtracted from the decayed weights, by its definition, in double precision."""
    steps = float(moments["step"])
    mean = moments["exp_avg"].double() / (1 - BETAS[0] ** steps)
    square = moments["exp_avg_sq"].double() / (1 - BETAS[1] ** steps)
    return (RATE * mean / (square.sqrt() + EPSILON)).float()


def fourth_step(
    workdir: Workdir, precision: str, saved: Path, monkeypatch: pytest.MonkeyPatch, *, fused: bool
) -> tuple[Engine, list[torch.Tensor]]:
    """An engine after a step on from a state of three, by that kernel, and its partitions before."""
    of_recipe = optimizer.of

    def chosen(model: torch.nn.Module, training: Training, **_: object) -> GuardedAdamW:
        return of_recipe(model, training, fused=fused)

    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "of", chosen)
        one = engine(workdir, precision)
    one.load(saved, 3)
    before = [parameter.detach().clone() for parameter in one._optimizer.state]
    step(one, 6)
    # Although the optimizer that saved the state had the other kernel.
    assert all(group["fused"] is fused for group in one._optimizer.param_groups)
    return one, before


@pytest.mark.parametrize(("deepspeed", "precision"), STAGES[1:] + SCALED)
def test_the_fused_update_of_a_flat_partition_is_the_plain_one_within_rounding(
    workdir: Workdir, alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    deepspeed: str, precision: str,
) -> None:  # fmt: skip
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    first = engine(workdir, precision)
    for seed in (0, 2, 4):
        step(first, seed)
    state(first, 3, tmp_path / "state")
    given = (workdir, precision, tmp_path / "state", monkeypatch)
    fused, before = fourth_step(*given, fused=True)
    plain, same = fourth_step(*given, fused=False)
    around = OF_BF16 if precision.endswith("bf16") else OPTIMIZERS
    assert (
        type(fused._engine.optimizer).__name__
        == around[str(json.loads(deepspeed)["zero_optimization"]["stage"])]
    )
    updated = zip(fused._optimizer.state.items(), plain._optimizer.state.items(), strict=True)
    for was, also, ((weights, moments), (expected, its)) in zip(before, same, updated, strict=True):
        assert (weights.dtype, weights.dim()) == (torch.float32, 1)
        assert torch.equal(was, also)
        assert not torch.equal(was, weights)
        assert float(moments["step"]) == float(its["step"]) == 4
        # Sums of two products of the same numbers: two roundings each.
        for name in ("exp_avg", "exp_avg_sq"):
            largest = torch.maximum(moments[name].abs(), its[name].abs())
            assert ((moments[name] - its[name]).abs() <= 2 * ulps(largest)).all()
        # Both compute w (1 - rate decay) - u. Each rounds twice at the size of its terms (1 ulp in all),
        # and five times within u (2.5 ulps of u): root, two quotients, sum and product.
        update = last_update(its)
        largest = torch.stack([was, weights, expected, update]).abs().amax(0)
        assert ((weights - expected).abs() <= 2 * ulps(largest) + 5 * ulps(update)).all()
    parameters = (one._engine.module.parameters() for one in (fused, plain))
    for weight, other in zip(*parameters, strict=True):  # in 16 bits they are neighbours at most
        assert torch.allclose(weight, other, rtol=2 * torch.finfo(weight.dtype).eps, atol=1e-6)
