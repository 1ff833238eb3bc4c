"""Gradients under each form of ZeRO, on two ranks: dropped with their step, and how they cross ranks."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import pytest

from kit.models.architecture import Activations
from kit.plan import traffic
from kit.plan.memory import Setup
from tests import warm
from tests.conftest import new_workdir

if TYPE_CHECKING:
    from collections.abc import Callable

    from .two_ranks import Found

SMALL = (
    "model.n_embd=8", "model.n_positions=8", "training.global_batch=6", "training.micro_batch=1",
)  # fmt: skip
# Buckets smaller than the largest weight, which has one of its own then; several are filled in turn.
ZERO = {
    "overlap_comm": True, "contiguous_gradients": True,
    "reduce_bucket_size": 390, "allgather_bucket_size": 390,
}  # fmt: skip
OFFLOAD: dict[str, object] = {"offload_optimizer": {"device": "cpu", "pin_memory": True}}
FP32 = {"communication_data_type": "fp32"}
Case = tuple[int, str, str, dict[str, object], dict[str, str]]
# Stage, precision, gradient_dtype, more of zero_optimization, more of the file.
CASES: dict[str, Case] = {
    "0-fp32": (0, "fp32", "fp32", {}, {}),
    "1-bf16": (1, "bf16", "fp32", {}, {}),
    "2-bf16-muon": (2, "bf16", "fp32", {}, {}),
    "2-bf16-comm-fp32": (2, "bf16", "fp32", {}, FP32),
    "2-bf16-offload": (2, "bf16", "fp32", OFFLOAD, FP32),
    "3-bf16-comm-fp32": (3, "bf16", "fp32", {}, FP32),
}
LONG: dict[str, Case] = {
    "0-fp32-muon": (0, "fp32", "fp32", {}, {}),
    "1-bf16-muon": (1, "bf16", "fp32", {}, {}),
    "1-fp32-muon": (1, "fp32", "fp32", {}, {}),
    "2-fp16-muon": (2, "fp16", "fp32", {}, {}),
    "0-bf16": (0, "bf16", "bf16", {}, {}),
    "1-bf16-bf16": (1, "bf16", "bf16", {}, {}),
    "1-bf16-comm-fp32": (1, "bf16", "fp32", {}, FP32),
    "1-bf16-offload": (1, "bf16", "fp32", OFFLOAD, {}),
    "1-fp16": (1, "fp16", "fp32", {}, FP32),
    "1-fp32": (1, "fp32", "fp32", {}, {}),
    "2-bf16": (2, "bf16", "fp32", {}, {}),
    "2-bf16-bf16": (2, "bf16", "bf16", {}, {}),
    "2-bf16-bf16-offload": (2, "bf16", "bf16", OFFLOAD, {}),
    "2-fp16": (2, "fp16", "fp32", {}, FP32),
    "2-fp16-offload": (2, "fp16", "fp32", OFFLOAD, {}),
    "2-fp32": (2, "fp32", "fp32", {}, {}),
    "3-bf16": (3, "bf16", "fp32", {}, {}),
    "3-bf16-offload": (3, "bf16", "fp32", OFFLOAD, {}),
    "3-fp16": (3, "fp16", "fp32", {}, {}),
    "3-fp32": (3, "fp32", "fp32", {}, {}),
}


def of_muon(name: str) -> tuple[str, ...]:
    """The override of the cases that Muon trains."""
    return ("training.optimizer=muon",) if name.endswith("muon") else ()


every_case = pytest.mark.parametrize(
    "name", [*CASES, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]
)


@pytest.fixture(scope="module")
def ranks(
    tmp_path_factory: pytest.TempPathFactory, streams: list[bytes]
) -> Callable[[str], list[Found]]:
    """What the two ranks found in a case; all of CASES, or of LONG, run in the same two processes."""

    @functools.cache
    def found(of: str) -> list[Found]:
        folder = tmp_path_factory.mktemp("ranks")
        recipe = new_workdir(folder, streams).recipe_file
        cases = CASES if of == "CASES" else LONG
        overrides = {}
        for name, (stage, precision, gradients, more, rest) in cases.items():
            file = folder / f"{name}.json"
            zero = {"stage": stage} if stage == 0 else {"stage": stage, **ZERO, **more}
            kept = {"zero_force_ds_cpu_optimizer": False} if more else {}
            file.write_text(json.dumps({"zero_optimization": zero, **kept, **rest}))
            formats = (f"training.precision={precision}", f"training.gradient_dtype={gradients}")
            overrides[name] = [*SMALL, f"training.deepspeed={file}", *formats, *of_muon(name)]
        program = ("tests.programs.two_ranks", str(folder), str(recipe), json.dumps(overrides))
        return [json.loads(line) for line in warm.training(*program).splitlines()]

    def of(name: str) -> list[Found]:
        both = [one for one in found("CASES" if name in CASES else "LONG") if one["name"] == name]
        assert sorted(one["rank"] for one in both) == [0, 1]
        return both

    return of


@every_case
def test_nothing_of_an_abandoned_step_is_left_in_deepspeed(
    ranks: Callable[[str], list[Found]], name: str
) -> None:
    for one in ranks(name):
        assert one["held"] > 500
        assert not one["left"]


@every_case
def test_steps_amid_others_that_came_to_nothing_are_bit_equal_to_steps_alone(
    ranks: Callable[[str], list[Found]], name: str
) -> None:
    for one in ranks(name):
        assert len({weights for _, weights in one["expected"]}) == 2
        assert one["abandoned"] == one["expected"]


@every_case
def test_a_checkpoint_loaded_amid_a_step_goes_on_as_if_that_had_not_begun(
    ranks: Callable[[str], list[Found]], name: str
) -> None:
    for one in ranks(name):
        assert one["rolled_back"] == ([] if name.startswith("3") else one["expected"][1:])


@every_case
def test_gradients_cross_the_ranks_as_the_deepspeed_file_says(
    ranks: Callable[[str], list[Found]], name: str
) -> None:
    stage, precision, _, _, rest = (CASES | LONG)[name]
    form = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    crossing = form["fp32" if "communication_data_type" in rest else precision]
    function = "reduce_scatter_tensor" if stage == 3 else "all_reduce"
    for one in ranks(name):
        all_of_them = {f"{function} torch.{crossing}": one["parameters"]}
        each = all_of_them if stage >= 2 else {}
        assert one["crossed"] == [each, each, all_of_them]
        setup = Setup(
            *(one["parameters"], 1, 8, 2, 8, 50, Activations(0, 0), Activations(0, 0)),
            stage=stage,
            crossing_item=4 if crossing == "float32" else 2,
        )
        planned = traffic.gradients(setup, len(one["crossed"]))
        assert planned.function == function.removesuffix("_tensor").replace("_", "-")
        assert planned.bytes == setup.crossing_item * sum(sum(m.values()) for m in one["crossed"])
