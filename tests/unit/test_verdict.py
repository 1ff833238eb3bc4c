"""The verdict on a step, which a GPU gives by itself, and the one that the host words."""

from __future__ import annotations

import math

import pytest
import torch

from kit.config.recipe import Health
from kit.training import health
from kit.training.device import Device
from kit.training.progress import Progress
from kit.training.verdict import Limits, Verdict

RULES = Health(loss_spike=0.5, gradient_spike=2)
PROGRESS = Progress(losses=[3.1] * 20, gradient_norms=[0.7] * 20)
LIMITS = health.limits(RULES, PROGRESS)


def verdict(
    loss: float, norm: float, limits: Limits = LIMITS, z_loss: tuple[torch.Tensor, ...] = ()
) -> Verdict:
    one, other = (torch.tensor(value, dtype=torch.float64) for value in (loss, norm))
    return Verdict(Device("cpu", 0), torch.stack((one, *z_loss)), other, limits)


@pytest.mark.parametrize("loss", [3.1, 3.6, 3.7, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("norm", [0.0, 0.7, 1.4, 1.5, -1.0, math.inf, math.nan])
def test_the_device_refuses_a_step_if_and_only_if_the_host_finds_it_bad(
    loss: float, norm: float
) -> None:
    found = verdict(loss, norm)
    (read,), gradient_norm = found.read()
    problem = health.problem(RULES, PROGRESS, read, gradient_norm)
    assert found.is_good is (problem is None)
    assert found.refused.tolist() == (0.0 if problem is None else 1.0)
    assert found.refused.dtype == torch.float32  # as the fused kernel takes it


def test_at_its_limit_a_step_is_good_and_one_fp64_number_further_it_is_not() -> None:
    assert verdict(LIMITS.loss, LIMITS.gradient_norm).is_good
    assert not verdict(math.nextafter(LIMITS.loss, math.inf), 0.7).is_good
    assert not verdict(3.1, math.nextafter(LIMITS.gradient_norm, math.inf)).is_good


def test_without_limits_whatever_is_finite_is_good() -> None:
    assert verdict(1e30, 1e30, Limits()).is_good
    assert health.limits(RULES, Progress()) == Limits()


def test_the_norm_that_deepspeed_marks_as_not_finite_is_not_a_number() -> None:
    assert math.isnan(verdict(3.1, -1.0).read()[1])


def test_z_loss_is_read_and_not_judged() -> None:
    found = verdict(LIMITS.loss, 0.7, z_loss=(torch.tensor(100.0, dtype=torch.float64),))
    assert found.is_good
    assert found.read() == ([LIMITS.loss, 100.0], 0.7)
    assert not verdict(LIMITS.loss + 1, 0.7, z_loss=(torch.tensor(0.0),)).is_good
