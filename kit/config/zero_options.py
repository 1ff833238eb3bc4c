"""The options of ZeRO in a DeepSpeed file: their names and types, and the stages that use them.

DeepSpeed checks names and types itself, but when the ranks start, and it ignores an option of another
stage silently. Taken from deepspeed/runtime/zero/config.py and offload_config.py of DeepSpeed 0.19.8.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STAGES = (0, 1, 2, 3)
ZERO = "zero_optimization"
DEVICES = ("none", "cpu", "nvme")
Kind = Literal[
    "true or false", "true, false or null", "an integer >= 0", "an integer > 0", "a number from 0 to 1",
    "0, 1, 2 or 3", "none, cpu or nvme", "text", "a section or null", "a number > 0", "true", "false",
    "a section", "fp32, bf16, fp16 or null",
]  # fmt: skip
BOOL: Kind = "true or false"
_COUNT: Kind = "an integer >= 0"
SECTION: Kind = "a section or null"


class Option(NamedTuple):
    """The values of an option, in words, and the stages that use it."""

    kind: Kind
    stages: tuple[int, ...] = (1, 2, 3)


def _options(kind: Kind, stages: tuple[int, ...], names: str) -> dict[str, Option]:
    return {name: Option(kind, stages) for name in names.split()}


_UP_TO_2, _ONLY_3 = (1, 2), (3,)
_OF_3: Mapping[str, Kind] = {  # each has a second name
    "prefetch_bucket_size": _COUNT, "param_persistence_threshold": _COUNT,
    "model_persistence_threshold": _COUNT, "max_live_parameters": _COUNT, "max_reuse_distance": _COUNT,
    "module_granularity_threshold": _COUNT, "use_all_reduce_for_fetch_params": BOOL,
    "allgather_sequential": BOOL,
}  # fmt: skip
OPTIONS: Mapping[str, Option] = {
    "stage": Option("0, 1, 2 or 3", STAGES),
    **_options(BOOL, (1, 2, 3), "contiguous_gradients reduce_scatter"),
    "overlap_comm": Option("true, false or null"),
    "reduce_bucket_size": Option("an integer > 0"),
    **_options(SECTION, (1, 2, 3), "offload_optimizer"),
    **_options(BOOL, _UP_TO_2, "use_multi_rank_bucket_allreduce allgather_partitions"),
    "cpu_offload": Option("true, false or null", _UP_TO_2),
    **_options(BOOL, _UP_TO_2, "round_robin_gradients parameter_alignment ignore_unused_parameters"),
    **_options(_COUNT, _UP_TO_2, "allgather_bucket_size"),
    **_options(SECTION, _ONLY_3, "offload_param leaf_module"),
    **_options(_COUNT, _ONLY_3, "sub_group_size zero_hpz_partition_size"),
    **_options(BOOL, _ONLY_3, "zero_quantized_weights zero_quantized_nontrainable_weights"),
    **_options(BOOL, _ONLY_3, "zero_quantized_gradients memory_efficient_linear"),
    **_options(BOOL, _ONLY_3, "override_module_apply log_trace_cache_warnings enable_sanity_checks"),
    **{name: Option(kind, _ONLY_3) for name, kind in _OF_3.items()},
    **{f"stage3_{name}": Option(kind, _ONLY_3) for name, kind in _OF_3.items()},
}  # fmt: skip
# What DeepSpeed has besides, why it is not for a recipe, and what to do.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("gather_16bit_weights_on_model_save", "stage3_gather_16bit_weights_on_model_save",
         "stage3_gather_fp16_weights_on_model_save"),
        "ekiden export gathers the weights of any stage; leave it out",
    ),
    "save_muon_momentum_buffer_in_memory": "it is for DeepSpeed's own Muon; leave it out",
    "pipeline_loading_checkpoint": "it is for DeepSpeed's own loading of checkpoints; leave it out",
    "load_from_fp32_weights": "a resumed run has its fp32 weights from the checkpoint; leave it out",
    "elastic_checkpoint": "checkpoints move to another world size without it; leave it out",
    "compute_grad_norm": "each step needs the gradient norm; leave it out",
    "zenflow": "it is an optimizer of its own, in place of training.optimizer; leave it out",
    "legacy_stage1": "DeepSpeed no longer has it; leave it out",
    "cpu_offload_param": "write offload_param: {device: cpu}",
    "cpu_offload_use_pin_memory": "write pin_memory in offload_optimizer or offload_param",
}  # fmt: skip
_OFFLOAD = {
    "device": Option("none, cpu or nvme"), "pin_memory": Option(BOOL),
    "nvme_path": Option("text", _ONLY_3), "buffer_count": Option(_COUNT, _ONLY_3),
}  # fmt: skip
SECTIONS: Mapping[str, Mapping[str, Option]] = {
    "offload_optimizer": _OFFLOAD | {
        "pipeline_read": Option(BOOL, _ONLY_3), "pipeline_write": Option(BOOL, _ONLY_3),
        "fast_init": Option(BOOL, _ONLY_3),
        "ratio": Option("a number from 0 to 1", _ONLY_3), "super_offload": Option(BOOL, _ONLY_3),
        "cpuadam_cores_perc": Option("a number from 0 to 1", _ONLY_3),
    },
    "offload_param": _OFFLOAD | {"buffer_size": Option(_COUNT), "max_in_cpu": Option(_COUNT)},
}  # fmt: skip


def sections(
    file: Mapping[str, Any],
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Option]]]:
    """The section of ZeRO and those below, each with its prefix and its options."""
    zero = file.get(ZERO, {})
    yield f"{ZERO}.", zero, OPTIONS
    for name, options in SECTIONS.items():
        if isinstance(section := zero.get(name), dict):
            yield f"{ZERO}.{name}.", section, options


def mistakes(
    section: Mapping[str, Any],
    options: Mapping[str, Option],
    refused: Mapping[str, str],
    where: str,
) -> Iterator[str]:
    """A line for each key that is unknown or refused, and for each value of another type."""
    for name, value in section.items():
        if name in refused:
            yield f"{where}{name} cannot be set there: {refused[name]}"
        elif name not in options:
            yield f"{where}{name}: DeepSpeed has no such option; {_hint(name, options, refused)}"
        elif not _fits(value, options[name].kind):
            yield f"{where}{name}={value!r:.80}: write {options[name].kind}"


def _hint(name: str, options: Mapping[str, Option], refused: Mapping[str, str]) -> str:
    for near in difflib.get_close_matches(name, [*options, *refused], 1):
        return f"did you mean {near}? {refused.get(near, '')}".rstrip()
    return "leave it out"


def _fits(value: Any, kind: Kind) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # JSON has 5e8 as a float.
    is_integer = is_number and math.isfinite(value) and value == int(value)
    match kind:
        case "true or false":
            return isinstance(value, bool)
        case "true, false or null":
            return value is None or isinstance(value, bool)
        case "an integer >= 0":
            return is_integer and value >= 0
        case "an integer > 0":
            return is_integer and value > 0
        case "a number from 0 to 1":
            return is_number and 0 <= value <= 1
        case "0, 1, 2 or 3":
            return is_integer and value in STAGES
        case "none, cpu or nvme":
            return isinstance(value, str) and value in DEVICES
        case "text":
            return isinstance(value, str)
        case "a section":
            return isinstance(value, dict)
        case "fp32, bf16, fp16 or null":
            return value in (None, "fp32", "bf16", "fp16")
        case "a number > 0":
            return is_number and 0 < value < math.inf
        case "true" | "false":
            return value is (kind == "true")
    return value is None or isinstance(value, dict)
