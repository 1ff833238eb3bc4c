"""DeepSpeed files: what would fail or be ignored on the ranks is refused as the recipe is loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from kit.config import deepspeed_file, fields
from kit.config.load import changed_recipe, load_recipe
from kit.config.recipe import Recipe
from kit.errors import ConfigError
from kit.relay import resolve, trainable

if TYPE_CHECKING:
    from tests.conftest import Workdir


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('{"stage": 4}', "zero_optimization.stage=4: write 0, 1, 2 or 3"),
        ('{"stage": -1}', "zero_optimization.stage=-1: write 0, 1, 2 or 3"),
        ('{"stage": "3"}', "zero_optimization.stage='3': write 0, 1, 2 or 3"),
        ('{"stage": true}', "zero_optimization.stage=True: write 0, 1, 2 or 3"),
        ("true", "zero_optimization=True: write a section"),
        ("[2]", "zero_optimization=[2]: write a section"),
        ("null", "zero_optimization=None: write a section"),
        ('{"overlap_com": true}', "overlap_com: DeepSpeed has no such option; did you mean overlap_comm?"),
        ('{"speed": 9}', "speed: DeepSpeed has no such option; leave it out"),
        ('{"overlap_comm": "true"}', "overlap_comm='true': write true, false or null"),
        ('{"reduce_bucket_size": "big"}', "reduce_bucket_size='big': write an integer > 0"),
        ('{"reduce_bucket_size": "auto"}', "reduce_bucket_size='auto': write an integer > 0"),
        ('{"reduce_bucket_size": 0}', "reduce_bucket_size=0: write an integer > 0"),
        ('{"reduce_bucket_size": 1e999}', "reduce_bucket_size=inf: write an integer > 0"),
        ('{"load_from_fp32_weights": false}', "load_from_fp32_weights cannot be set there: a resumed "),
        ('{"cpu_offload_param": true}', "cannot be set there: write offload_param: {device: cpu}"),
        ('{"offload_optimizer": true}', "offload_optimizer=True: write a section or null"),
        ('{"offload_optimizer": {"device": "gpu"}}', "device='gpu': write none, cpu or nvme"),
        ('{"offload_optimizer": {"ratio": 2}}', "offload_optimizer.ratio=2: write a number from 0 to 1"),
        ('{"offload_param": {"devise": "cpu"}}', "offload_param.devise: DeepSpeed has no "),
    ],
)  # fmt: skip
def test_an_option_that_deepspeed_would_refuse_is_a_mistake_in_a_line(
    workdir: Workdir, options: str, said: str
) -> None:
    text = f'{{"zero_optimization": {options}}}'
    file = workdir.folder / "zero2.json"  # of the recipe
    file.write_text(text, encoding="utf-8")
    for overrides in ((), (f"training.deepspeed={text}",)):
        with pytest.raises(ConfigError) as found:
            workdir.recipe(*overrides)
        (line,) = found.value.args
        assert said in line
        assert (str(file) in line) is not bool(overrides)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ('{"gradient_predivide_factor": "x"}', "gradient_predivide_factor='x': write a number > 0"),
        ('{"gradient_predivide_factor": 0}', "gradient_predivide_factor=0: write a number > 0"),
        ('{"prescale_gradients": "no"}', "prescale_gradients='no': write true or false"),
        ('{"comms_logger": true}', "comms_logger=True: write a section or null"),
        ('{"zero_allow_untested_optimizer": false}', "optimizer=False: write true"),
        ('{"zero_force_ds_cpu_optimizer": true}', "optimizer=True: write false"),
        ('{"communication_data_type": "int8"}', "type='int8': write fp32, bf16, fp16 or null"),
        ('{"zero_optimisation": {}}', "no such option; did you mean zero_optimization?"),
        ('{"speed": {}}', "speed: DeepSpeed has no such option; leave it out"),
        (
            '{"gradient_clip": 1}',
            "did you mean gradient_clipping? the kit sets it; use training.clip",
        ),
        ('{"fp16": {}}', "fp16 cannot be set there: the kit sets it; use training.precision"),
        ('{"aio": {}}', "aio cannot be set there: the kit keeps its default; leave it out"),
        ('{"elasticity": {}}', "cannot be set there: DeepSpeed no longer has it; leave it out"),
    ],
)
def test_another_key_of_the_file_is_checked_as_well(workdir: Workdir, file: str, said: str) -> None:
    with pytest.raises(ConfigError) as found:
        workdir.recipe(f"training.deepspeed={file}")
    assert said in str(found.value)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"stage": 2, "offload_param": {"device": "cpu"}}, "offload_param has no .* only with 3;"),
        (
            {"stage": 1, "stage3_prefetch_bucket_size": 5e7},
            "size has no effect with stage 1, only with 3;",
        ),
        ({"stage": 3, "round_robin_gradients": False}, "only with 1 and 2; leave it out"),
        ({"overlap_comm": None}, "only with 1 and 2 and 3; leave it out"),
        ({"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}, "ratio has no effect"),
        (
            {"stage": 2, "offload_optimizer": {"device": "nvme"}},
            "takes the host's memory; write cpu",
        ),
    ],
)
def test_an_option_of_another_stage_is_refused_unless_the_run_has_begun(
    workdir: Workdir, options: dict[str, object], allowed: str
) -> None:
    file = {"zero_optimization": options}
    project = resolve.load(workdir.recipe_file, [f"training.deepspeed={json.dumps(file)}"])
    with pytest.raises(ConfigError, match=allowed):
        trainable.check(project.recipe, project.cluster)
    trainable.check(project.recipe, project.cluster, begun=True)


@pytest.mark.parametrize(
    "file",
    [
        {"wall_clock_breakdown": True},
        {"flops_profiler": {"enabled": True}},
    ],
)
def test_what_only_deepspeeds_log_would_show_is_refused(
    workdir: Workdir, file: dict[str, object]
) -> None:
    def lines(text: object) -> list[str]:
        deepspeed = workdir.recipe(f"training.deepspeed={json.dumps(text)}").training.deepspeed
        assert isinstance(deepspeed, dict)
        return [*deepspeed_file.idle(deepspeed)]

    (line,) = lines(file)
    assert "has no effect: it writes to DeepSpeed's log" in line
    assert lines({"wall_clock_breakdown": False, "flops_profiler": {"enabled": False}}) == []


def test_gradients_are_scaled_in_another_way_only_without_reduce_scatter(workdir: Workdir) -> None:
    for key in ('"prescale_gradients": true', '"gradient_predivide_factor": 2'):
        for more, allowed in (('"stage": 2', False), ('"stage": 2, "reduce_scatter": false', True)):
            file = f'training.deepspeed={{"zero_optimization": {{{more}}}, {key}}}'
            if allowed:
                workdir.recipe(file)
            else:
                with pytest.raises(ConfigError, match="without reduce-scatter"):
                    workdir.recipe(file)


def test_the_options_of_their_stage_are_taken() -> None:
    deepspeed_file.check(
        {
            "zero_optimization": {
                "stage": 3, "overlap_comm": None, "sub_group_size": 1e9, "reduce_bucket_size": 5e8,
                "stage3_max_live_parameters": 0, "offload_optimizer": None, "contiguous_gradients": True,
                "offload_param": {"device": "cpu", "pin_memory": True, "buffer_size": 1e8},
            }
        },
        "here",
    )  # fmt: skip


def test_each_key_of_the_kits_names_keys_of_a_recipe() -> None:
    known = set(fields.dotted_keys(Recipe))
    for keys in deepspeed_file.SET_BY_KIT.values():
        assert set(keys.split(" and ")) <= known


@pytest.mark.parametrize(
    ("overrides", "blamed", "said"),
    [
        (["training.precision=fp16", "training.deepspeed={zero_optimization: {stage: 0}}"], 0, "scales"),
        (["training.precision=bf16", "training.deepspeed={}"], 0, "on; use stage 1 or higher"),
        (["training.precision=bf16", "training.gradient_dtype=fp16"], 0, "in fp32 or bf16 only"),
        (["training.loss_kernel=liger", "training.precision=fp16"], 0, "in fp16 it rounds small"),
        (
            ["training.health.on_bad_step=rollback", "training.deepspeed={zero_optimization: {stage: 3}}"],
            0,
            "cannot load a checkpoint in mid-run under ZeRO-3",
        ),
        (["training.optimizer=muon", "training.deepspeed=zero2-offload"], 0, "on the host"),
    ],
)  # fmt: skip
def test_keys_that_contradict_each_other_are_refused_by_load(
    workdir: Workdir, overrides: list[str], blamed: int, said: str
) -> None:
    with pytest.raises(ConfigError) as found:
        load_recipe(workdir.recipe_file, overrides)
    (line,) = found.value.args
    assert line.startswith(f"override '{overrides[blamed]}': training.")
    assert said in line


def test_a_key_within_the_file_may_be_overridden_and_is_checked(workdir: Workdir) -> None:
    own = workdir.recipe('training.deepspeed={"zero_optimization": {"stage": 2}}')
    for key, said in (
        ("train_batch_size=8", "the kit sets it"),
        ("zero_optimization.stage=4", "=4: "),
    ):
        with pytest.raises(ConfigError, match=f"^override 'training.deepspeed.{key}': .*{said}"):
            changed_recipe(own, [f"training.deepspeed.{key}"])
    stage = "training.deepspeed.zero_optimization.stage=3"
    with pytest.raises(ConfigError, match=r"^override 'training\.optimizer=muon': .*ZeRO-3"):
        changed_recipe(own, [stage, "training.optimizer=muon"])


def test_a_contradiction_in_the_file_names_the_file(workdir: Workdir) -> None:
    tree = yaml.safe_load(workdir.recipe_file.read_text(encoding="utf-8"))
    tree["training"] |= {"precision": "bf16", "gradient_dtype": "fp16"}
    file = workdir.write("contrary.yaml", tree)
    with pytest.raises(ConfigError, match=rf"^{file}: training\.gradient_dtype=fp16: gradients of"):
        load_recipe(file, [])


def test_what_depends_on_precision_waits_until_it_is_known(workdir: Workdir) -> None:
    dtype = ["training.gradient_dtype=bf16", "training.precision=auto"]
    assert load_recipe(workdir.recipe_file, dtype).training.precision == "auto"
    project = resolve.load(workdir.recipe_file, dtype)  # fp32, on a CPU
    with pytest.raises(ConfigError, match="can be accumulated in fp32 only"):
        trainable.check(project.recipe, project.cluster)
