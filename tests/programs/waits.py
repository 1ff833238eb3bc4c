"""Who waits for the device in a step, and how often: by form of ZeRO, precision and offload.

Each case has five parts of a step with three micro-batches: the first, the second, and the last one; the
update until the first weights change; and what follows. The cases are those of `test_gradients`, on one
rank, with a model of 16 weights in two groups. Only the first wait of a run of them finds the device busy.
"""

from __future__ import annotations

Waits = dict[str, int]  # by module and function

# Loss and gradient norm, in one copy that is queued before the weights change: our only wait.
OURS: Waits = {"verdict._values": 1}
# ZeRO-1 and 2 with overlap_comm wait for the device, ZeRO-3 for the stream of its reductions.
REDUCED: Waits = {"stage_1_and_2.independent_gradient_partition_epilogue": 1}
REDUCED_3: Waits = {"stage3.independent_gradient_partition_epilogue": 1}
# The norm of each group: a -1 copied from pageable memory, for norms that are not finite.
NORMS: Waits = {"utils.mask_nan_or_inf_with_val_inplace": 2}
NORMS_3: Waits = {"stage3.get_grad_norm_direct": 2}
OF_THREE: Waits = {"utils.mask_nan_or_inf_with_val_inplace": 3}  # Muon has a group of its own
INVALID: Waits = {"utils.is_invalid_grad_norm": 1}
# Of ZeRO-1 in bf16 with gradients accumulated in fp32, which has an optimizer of its own.
BF16: Waits = {
    "utils.mask_nan_or_inf_with_val_inplace": 1, **INVALID, "utils.clip_tensors_by_global_norm": 1,
}  # fmt: skip
# fp16: the overflow, the norm, and the norm again for each group, which DeepSpeed clips.
SCALED: Waits = {
    "stage_1_and_2.has_overflow": 1, **NORMS, "utils.is_invalid_grad_norm": 2,
}  # fmt: skip
# An offloaded optimizer: whether each gradient is finite, and its norm.
OFFLOADED: Waits = {"stage_1_and_2.update_offload_overflow_tracker": 16, **REDUCED}
HOST_NORMS: Waits = {
    "stage_1_and_2._wait_for_offload_copies": 1,
    "stage_1_and_2.complete_grad_norm_calculation_for_cpu_offload": 22,
}  # fmt: skip
COPIES = "stage_1_and_2._wait_for_offload_copies"
# Weights that ZeRO-3 keeps whole, gathered once they are updated.
GATHERED: Waits = {"partition_parameters.wait": 1}

_ZERO_1 = ({}, {}, REDUCED, NORMS, OURS)
_ZERO_2 = (REDUCED, REDUCED, REDUCED, NORMS, OURS)
_ZERO_3 = (REDUCED_3, REDUCED_3, REDUCED_3, {**NORMS_3, **INVALID}, {**GATHERED, **OURS})
TABLE: dict[str, tuple[Waits, ...]] = {
    "0-fp32": ({}, {}, {}, {}, OURS),
    "1-bf16": ({}, {}, {}, BF16, OURS),
    "2-bf16-muon": (REDUCED, REDUCED, REDUCED, OF_THREE, OURS),
    "2-bf16-comm-fp32": _ZERO_2,
    "2-bf16-offload": (REDUCED, REDUCED, OFFLOADED, HOST_NORMS, OURS),
    "3-bf16-comm-fp32": _ZERO_3,
    "0-bf16": (
        {}, {}, {},
        {"utils.has_overflow_serial": 16, "utils.has_overflow": 2, "utils.get_weight_norm": 6},
        OURS,
    ),
    "1-bf16-bf16": _ZERO_1,
    "1-bf16-comm-fp32": ({}, {}, {}, BF16, OURS),
    "1-bf16-offload": ({}, {}, OFFLOADED, HOST_NORMS, OURS),
    "1-fp16": ({}, {}, REDUCED, SCALED, {**INVALID, **OURS}),
    "0-fp32-muon": ({}, {}, {}, {}, OURS),
    "1-bf16-muon": ({}, {}, {}, BF16, OURS),
    "1-fp32-muon": ({}, {}, REDUCED, {**OF_THREE, **INVALID}, OURS),
    "2-fp16-muon": (
        REDUCED, REDUCED, REDUCED, {**SCALED, **OF_THREE}, {"utils.is_invalid_grad_norm": 2, **OURS},
    ),
    "1-fp32": ({}, {}, REDUCED, {**NORMS, **INVALID}, OURS),
    "2-bf16": _ZERO_2,
    "2-bf16-bf16": _ZERO_2,
    "2-bf16-bf16-offload": (
        {COPIES: 15, **REDUCED}, {COPIES: 16, **REDUCED}, {COPIES: 16, **OFFLOADED}, HOST_NORMS, OURS,
    ),
    "2-fp16": (REDUCED, REDUCED, REDUCED, SCALED, {**INVALID, **OURS}),
    "2-fp16-offload": (
        REDUCED, REDUCED, OFFLOADED,
        {**HOST_NORMS, "stage_1_and_2.has_overflow": 2, "utils.is_invalid_grad_norm": 2},
        {**INVALID, **OURS},
    ),
    "2-fp32": (REDUCED, REDUCED, REDUCED, {**NORMS, **INVALID}, OURS),
    "3-bf16": _ZERO_3,
    "3-bf16-offload": (
        REDUCED_3, REDUCED_3, REDUCED_3,
        {"stage3.complete_grad_norm_calculation_for_cpu_offload": 6, **NORMS, **INVALID},
        {**GATHERED, **OURS},
    ),
    "3-fp16": (
        REDUCED_3, REDUCED_3, REDUCED_3,
        {"stage3.has_overflow": 1, **NORMS_3, **INVALID},
        {**GATHERED, **OURS},
    ),
    "3-fp32": _ZERO_3,
}  # fmt: skip
