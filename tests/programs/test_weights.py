"""The weights that are read from a checkpoint's files: fp32 masters, against DeepSpeed's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from kit.training import weights

from .test_engine import SCALED, STAGES, engine, state, step

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tests.conftest import Workdir

OPTIMIZER_FILE = "bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt"


@pytest.fixture
def saved(
    workdir: Workdir, alone: None, tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint after a step, and its masters as DeepSpeed gives them."""
    deepspeed, precision = request.param
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    one = engine(workdir, precision)
    step(one, 0)
    state(one, 1, tmp_path / "state")
    from deepspeed.utils import safe_get_full_fp32_param

    parameters = one._engine.module.named_parameters()
    return tmp_path / "state", {
        name: safe_get_full_fp32_param(value).clone() for name, value in parameters
    }


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    assert {*expected} <= {*found}
    return all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("saved", [*STAGES[1:], SCALED[1]], indirect=True)
def test_in_fp32_they_are_the_masters_and_not_the_copies_that_were_trained_with(
    saved: tuple[Path, dict[str, Tensor]],
) -> None:
    folder, masters = saved
    assert same(weights.read(folder, torch.float32, lambda: None), masters)
    if (folder / weights.WHOLE_MODEL).is_file():
        copies = torch.load(folder / weights.WHOLE_MODEL, weights_only=False)["module"]
        assert not same({name: value.float() for name, value in copies.items()}, masters)


@pytest.mark.parametrize("saved", [STAGES[2]], indirect=True)
def test_in_the_precision_of_training_they_are_its_copies_the_masters_rounded(
    saved: tuple[Path, dict[str, Tensor]],
) -> None:
    folder, masters = saved
    (folder / OPTIMIZER_FILE.format(0)).unlink()  # 19 of 22 GB that need not be read
    rounded = {name: value.bfloat16() for name, value in masters.items()}
    assert same(weights.read(folder, torch.bfloat16, lambda: None), rounded)


@pytest.mark.parametrize("saved", [STAGES[1]], indirect=True)
def test_a_weight_that_lies_on_several_ranks_is_joined_in_their_order(
    saved: tuple[Path, dict[str, Tensor]],
) -> None:
    folder, masters = saved
    whole = torch.load(folder / OPTIMIZER_FILE.format(0), weights_only=False)
    ranks = 11  # as text, rank 10 would come before rank 2
    for rank in range(ranks):
        torch.save(_part_of(whole, rank, ranks), folder / OPTIMIZER_FILE.format(rank))
    assert same(weights.read(folder, torch.float32, lambda: None), masters)


def _part_of(whole: dict[str, Any], rank: int, ranks: int) -> dict[str, Any]:
    """The optimizer file of one of several ranks, each with an equal part of every group."""
    from deepspeed.utils.tensor_fragment import fragment_address

    states = whole["optimizer_state_dict"]
    flats, mappings = [], []
    groups = zip(
        states["single_partition_of_fp32_groups"], states["param_slice_mappings"], strict=True
    )
    for flat, mapping in groups:
        size = -(-len(flat) // ranks)
        first, last = rank * size, min((rank + 1) * size, len(flat))
        flats.append(flat[first:last])
        places = {}
        for name, place in mapping.items():
            begin, end = max(place.start, first), min(place.start + place.numel, last)
            if begin < end:
                places[name] = fragment_address(end - begin, begin - first)
        mappings.append(places)
    parts = {"single_partition_of_fp32_groups": flats, "param_slice_mappings": mappings}
    return {"optimizer_state_dict": parts}


def test_of_a_run_in_fp32_they_are_the_models(
    workdir: Workdir, alone: None, tmp_path: Path
) -> None:
    one = engine(workdir)
    step(one, 0)
    state(one, 1, tmp_path / "state")
    own = dict(one._engine.module.named_parameters())
    assert same(weights.read(tmp_path / "state", torch.float32, lambda: None), own)
    assert same(
        weights.read(tmp_path / "state", torch.bfloat16, lambda: None), own
    )  # for the caller to round
