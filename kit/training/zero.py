"""Which DeepSpeed files fit a recipe: known without DeepSpeed, before there is a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.config.recipe import Training

# Other top-level keys are set by the recipe, or not known to DeepSpeed, which ignores them silently.
KEYS = {
    "zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
    "communication_data_type", "prescale_gradients", "gradient_predivide_factor",
    "wall_clock_breakdown", "memory_breakdown", "comms_logger", "flops_profiler",
}  # fmt: skip


def check(training: Training) -> None:
    """Raises ConfigError for a key that the recipe sets or that DeepSpeed would silently ignore, and where
    its stage of ZeRO cannot do what the recipe asks for.
    """
    assert isinstance(training.deepspeed, dict)
    for key in training.deepspeed:
        if key not in KEYS:
            raise ConfigError(
                f"training.deepspeed: {key} is not to be set there; allowed: {', '.join(sorted(KEYS))}"
            )
    assert training.precision != "auto"  # resolved when the run is submitted
    if training.gradient_dtype not in ("fp32", training.precision):
        raise ConfigError(
            f"training.gradient_dtype={training.gradient_dtype}: gradients of training.precision="
            f"{training.precision} are accumulated in fp32 or {training.precision}; give one of them"
        )
    stage = training.deepspeed.get("zero_optimization", {}).get("stage", 0)
    if stage == 0 and training.precision == "fp16":
        raise ConfigError(
            "training.precision=fp16: the loss scale is kept by ZeRO's optimizer, from stage 1 on; name "
            "another file as training.deepspeed"
        )
    if stage == 0 and training.precision == "bf16" and training.gradient_dtype == "fp32":
        raise ConfigError(
            "training.gradient_dtype=fp32: DeepSpeed accumulates bf16 gradients in fp32 from ZeRO stage 1 "
            "on; take stage 1, or gradient_dtype bf16"
        )
    if stage == 3 and training.health.on_bad_step == "rollback":
        raise ConfigError(
            "training.health.on_bad_step=rollback: DeepSpeed cannot load a checkpoint in mid-run under "
            "ZeRO-3; take skip or stop, or stage 2"
        )
