"""The keys of a DeepSpeed file: their names and types; kit/config/zero_options.py has those of ZeRO.

    deepspeed_file.check({"zero_optimization": {"stage": 2}}, "zero2.json")

DeepSpeed silently ignores a key that it does not know, and the kit sets many of its keys from the recipe.
The tables have every key for which DeepSpeed 0.19.8 looks (deepspeed/runtime/config.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.config import presets, zero_options
from kit.config.zero_options import BOOL, SECTION, STAGES, ZERO, Option
from kit.errors import ConfigError
from kit.store.files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kit.config.recipe import Recipe

_LOGGED = ("wall_clock_breakdown", "memory_breakdown", "comms_logger", "flops_profiler")
KEYS: Mapping[str, Option] = {
    ZERO: Option("a section"),
    "communication_data_type": Option("fp32, bf16, fp16 or null"),  # null: that of the weights
    "zero_allow_untested_optimizer": Option("true"),  # the optimizers are the kit's own
    "zero_force_ds_cpu_optimizer": Option("false"),
    "prescale_gradients": Option(BOOL),
    "gradient_predivide_factor": Option("a number > 0"),
    **dict.fromkeys(_LOGGED[:2], Option(BOOL)),
    **dict.fromkeys(_LOGGED[2:], Option(SECTION)),
}
# Keys that the kit sets, each with the keys of a recipe to use.
SET_BY_KIT: Mapping[str, str] = {
    "train_batch_size": "training.global_batch",
    "train_micro_batch_size_per_gpu": "training.micro_batch",
    "gradient_accumulation_steps": "training.global_batch and training.micro_batch",
    "gradient_clipping": "training.clip",
    "optimizer": "training.optimizer",
    "scheduler": "training.decay",
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "amp", "torch_autocast"), "training.precision"),
    "data_types": "training.gradient_dtype",
    "compile": "training.compile",
    "activation_checkpointing": "model.activation_checkpointing",
    "checkpoint": "training.checkpoint_every and training.keep",
    "tensorboard": "tracking.tensorboard",
    "vocabulary_size": "tokenizer.vocab_size and model.pad_vocab_to",
}
_KEYS_WITHOUT_USE = {
    "DeepSpeed's log is left out": "steps_per_print log_level dump_state",
    "the ledger has the rates, and timing waits for the GPU": "timers",
    "curves come from the ledger": "wandb comet csv_monitor",
    "the kit reads its own blocks": "data_efficiency dataloader_drop_last",
    "the kit writes its own checkpoints": "datastates_ckpt",
    "the kit knows data parallelism only": (
        "pipeline tensor_parallel expert_parallel use_data_before_expert_parallelism "
        "seq_parallel_communication_data_type sequence_parallel_size"
    ),
    "jobs.train rehearse finds the micro-batch": "autotuning",
    "the kit keeps its default": (
        "aio disable_allgather disable_python_gc gradient_allreduce_op hybrid_engine "
        "managed_gradient_accumulation weight_quantization"
    ),
    "DeepSpeed no longer has it": (
        "compression_training curriculum_learning eigenvalue elasticity graph_harvesting nebula "
        "progressive_layer_drop quantize_training sparse_attention sparse_gradients"
    ),
}
REFUSED: Mapping[str, str] = {
    **{key: f"the kit sets it; use {recipe}" for key, recipe in SET_BY_KIT.items()},
    **{
        key: f"{reason}; leave it out"
        for reason, keys in _KEYS_WITHOUT_USE.items()
        for key in keys.split()
    },
}


def in_recipe(recipe: Recipe, place: str | None, folder: Path) -> Recipe:
    """The recipe with the text of its DeepSpeed file, given as text, as a path in the folder, or by name.

    `place` is where it was given; None: in a run's own recipe. Raises ConfigError.
    """
    value = recipe.training.deepspeed
    if isinstance(value, dict):
        if place is not None:
            check(value, place)
        return recipe
    training = recipe.training.model_copy(update={"deepspeed": _read(value, str(place), folder)})
    return recipe.model_copy(update={"training": training})


def check(file: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError for keys that DeepSpeed would refuse or ignore, or that the kit sets."""
    where = f"{place}: training.deepspeed: "
    lines = [*zero_options.mistakes(file, KEYS, REFUSED, where)]
    if isinstance(file.get(ZERO, {}), dict):
        for prefix, section, options in zero_options.sections(file):
            refused = zero_options.REFUSED
            lines += zero_options.mistakes(section, options, refused, f"{where}{prefix}")
    if lines or (lines := [f"{place}: {line}" for line in _scaling(file)]):
        raise ConfigError(*lines)


def idle(file: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key without effect: of another stage, or for DeepSpeed's log, which is left out."""
    stage = file.get(ZERO, {}).get("stage", 0)
    for prefix, section, options in zero_options.sections(file):
        for name in section:
            option = options.get(name)
            if option is not None and stage not in option.stages:
                stages = " and ".join(map(str, option.stages))
                yield (
                    f"training.deepspeed: {prefix}{name} has no effect with stage {stage}, only with "
                    f"{stages}; leave it out"
                )
        if stage < max(STAGES) and section.get("device") == "nvme":
            yield (
                f"training.deepspeed: {prefix}device=nvme: with stage {stage} DeepSpeed takes the host's "
                "memory; write cpu, or use stage 3"
            )
    for name in _LOGGED:
        value = file.get(name)
        if value.get("enabled") if isinstance(value, dict) else value:
            yield (
                f"training.deepspeed: {name} has no effect: it writes to DeepSpeed's log, which is left "
                "out; leave it out too, and rehearse the run with --profile"
            )


def _read(name: str, place: str, folder: Path) -> dict[str, Any]:
    files = presets.deepspeed(folder)
    path = files.get(name, folder / name)
    given = f"{place}: training.deepspeed={name}"
    try:
        file = read_json(path)
    except FileNotFoundError:
        known = ", ".join(sorted(files))
        raise ConfigError(f"{given}: no such file; name a JSON file, or one of {known}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{given}: not a JSON file ({error})") from None
    if not isinstance(file, dict):
        raise ConfigError(f"{given}: is not a JSON object")
    check(file, f"{place}: {path}")
    return file


def _scaling(file: Mapping[str, Any]) -> Iterator[str]:
    """A line for each scaling of gradients that DeepSpeed does not have with reduce-scatter."""
    zero = file.get(ZERO, {})
    neutral = {"prescale_gradients": False, "gradient_predivide_factor": 1}
    for key, value in neutral.items():
        scatters = zero.get("stage", 0) >= 2 and zero.get("reduce_scatter", True)
        if scatters and file.get(key, value) != value:
            yield (
                f"training.deepspeed: {key}={file[key]}: DeepSpeed has it only without reduce-scatter from "
                "ZeRO stage 2 on; leave it out, or set zero_optimization.reduce_scatter: false"
            )
