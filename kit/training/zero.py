"""Check that a DeepSpeed file fits the recipe, without importing DeepSpeed, before a job is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.config import zero_options
from kit.errors import ConfigError
from kit.plan import shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kit.config.recipe import Training

_CROSSING = "communication_data_type"
_FORMATS = (None, "fp32", "bf16", "fp16")  # of DeepSpeed for it; null: that of the weights
# Other top-level keys are set by the recipe, or unknown to DeepSpeed, which ignores them silently.
KEYS = {"zero_optimization", _CROSSING, *zero_options.FILE}


def check(training: Training, *, begun: bool = False) -> None:
    """Raise ConfigError for a key that the recipe sets or that DeepSpeed would silently ignore, or if
    the ZeRO stage does not support the recipe's settings.

    `begun`: it has been trained with, so options of other stages stay.
    """
    assert isinstance(training.deepspeed, dict)
    _check_keys(training.deepspeed)
    options = training.deepspeed.get("zero_optimization", {})
    stage = options.get("stage", 0)
    _check_formats(training, stage)
    if stage == 3 and training.health.on_bad_step == "rollback":
        raise ConfigError(
            "training.health.on_bad_step=rollback: DeepSpeed cannot load a checkpoint in mid-run under "
            "ZeRO-3; use skip or stop, or ZeRO stage 2"
        )
    _check_scaling(training.deepspeed, stage)
    if training.optimizer == "muon":
        _check_for_muon(options)
    if not begun and (lines := [*zero_options.idle(training.deepspeed)]):
        raise ConfigError(*lines)


def _check_keys(file: Mapping[str, Any]) -> None:
    for key in file:
        if key not in KEYS:
            raise ConfigError(
                f"training.deepspeed: {key} cannot be set there; allowed: {', '.join(sorted(KEYS))}"
            )
    if (crossing := file.get(_CROSSING)) not in _FORMATS:
        raise ConfigError(
            f"training.deepspeed: {_CROSSING}={crossing}: unknown format; allowed: fp32, bf16, fp16, null"
        )


def _check_formats(training: Training, stage: int) -> None:
    """Raise ConfigError for formats of weights and gradients that DeepSpeed does not have together."""
    assert training.precision != "auto"  # resolved when the run is submitted
    if training.gradient_dtype not in ("fp32", training.precision):
        allowed = " or ".join(dict.fromkeys(("fp32", training.precision)))
        raise ConfigError(
            f"training.gradient_dtype={training.gradient_dtype}: gradients of training.precision="
            f"{training.precision} can be accumulated in {allowed} only"
        )
    if stage == 0 and training.precision == "fp16":
        raise ConfigError(
            "training.precision=fp16: DeepSpeed scales the loss from ZeRO stage 1 on; choose another "
            "training.deepspeed file, such as zero2"
        )
    if stage == 0 and training.precision == "bf16" and training.gradient_dtype == "fp32":
        raise ConfigError(
            "training.gradient_dtype=fp32: DeepSpeed accumulates bf16 gradients in fp32 from ZeRO stage 1 "
            "on; use stage 1 or higher, or training.gradient_dtype=bf16"
        )


def _check_scaling(file: Mapping[str, Any], stage: int) -> None:
    """Raise ConfigError for a scaling of gradients that DeepSpeed does not have with reduce-scatter."""
    scatters = file.get("zero_optimization", {}).get("reduce_scatter", True)
    neutral = {"prescale_gradients": False, "gradient_predivide_factor": 1}
    for key, value in neutral.items():
        if stage >= 2 and scatters and file.get(key, value) != value:
            raise ConfigError(
                f"training.deepspeed: {key}={file[key]}: DeepSpeed has it only without reduce-scatter from "
                "ZeRO stage 2 on; leave it out, or set zero_optimization.reduce_scatter: false"
            )


def bound_buckets(configuration: dict[str, Any], parameters: int) -> None:
    """Make the buckets of gradients in a DeepSpeed configuration no larger than the model.

    DeepSpeed allocates them whole, in each micro-batch. The order of its sums does not change.
    """
    options = configuration.get("zero_optimization", {})
    if options.get("stage", 0) > 0:
        size = shape.bucket(options, parameters)
        configuration["zero_optimization"] = {**options, "reduce_bucket_size": size}


def _check_for_muon(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for options of ZeRO with which a rank could not orthogonalise its matrices."""
    remedy = "use the DeepSpeed file zero1 or zero2, or training.optimizer=adamw"
    offload = options.get("offload_optimizer") or {}
    if options.get("stage", 0) == 3:
        raise ConfigError(
            f"training.optimizer=muon: ZeRO-3 cuts every matrix into a piece for each rank; {remedy}"
        )
    if offload.get("device", "none") != "none" or options.get("cpu_offload"):
        raise ConfigError(
            "training.optimizer=muon: an offloaded optimizer would orthogonalise on the host, a hundred "
            f"times as slowly as on a GPU; {remedy}"
        )
    for key in ("round_robin_gradients", "parameter_alignment"):
        if options.get(key):
            raise ConfigError(
                f"training.optimizer=muon: {key} of training.deepspeed moves weights out of their order; "
                "leave it out"
            )
