"""Gradients that DeepSpeed holds for a step: where they are reduced, and how they are dropped.

A step is abandoned between two micro-batches, or its gradient overflows. DeepSpeed 0.19.8 empties its
accumulators in an update only, and not all of them if that overflows: what is left would be added to the
next step. Line numbers below are those of its `runtime/` folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEFORE_FIRST = -1  # zero/stage_1_and_2.py, INITIAL_MICRO_STEP_ID


def reductions(engine: Any) -> Iterator[tuple[Any, str]]:
    """The methods that reduce gradients over the ranks, as objects and names, before any of them is called.

    Buckets are reduced while the backward pass goes on (ZeRO 1 and 2: stage_1_and_2.py:2205, 3:
    stage3.py:1648), the rest after it (engine.py:3073).
    """
    yield engine, "allreduce_gradients"
    for name in (
        "reduce_ipg_grads",
        "_DeepSpeedZeroOptimizer_Stage3__reduce_and_partition_ipg_grads",
    ):
        if hasattr(engine.optimizer, name):
            yield engine.optimizer, name


@torch.no_grad()
def drop(engine: Any) -> None:
    """Drop all gradients of the current step from DeepSpeed's engine. No collective.

    Call it between two micro-batches, once the device has finished its work.
    """
    # The boundary of an accumulation follows from it: engine.py:3463.
    engine.micro_steps -= engine.micro_steps % engine.gradient_accumulation_steps()
    optimizer = engine.optimizer
    # `grad` of each weight; `grad_accum` (ZeRO-1: stage_1_and_2.py:2613); the fp32 gradients of ZeRO-1 in
    # bf16 and which weights have one (bf16_optimizer.py:641); under ZeRO-3 the flag that the next
    # micro-batch overwrites the partitions instead of adding to them (stage3.py:2370).
    optimizer.zero_grad()
    if hasattr(optimizer, "_backward_hook_state"):  # any ZeRO stage
        _reset_hooks(optimizer)
    if hasattr(optimizer, "partition_gradients"):
        _drop_of_stage_1_and_2(optimizer)
    elif hasattr(optimizer, "grad_partitions_flat_buffer"):
        _drop_of_stage_3(optimizer)


def _reset_hooks(optimizer: Any) -> None:
    """Reset the count of hooks that a backward pass has run, and its depth: base_optimizer.py:91."""
    state = optimizer._backward_hook_state
    state.reset_for_new_step()
    state.backward_active_depth = state.remaining_grad_acc_hooks = 0
    optimizer.set_gradient_accumulation_boundary(True)


def _drop_of_stage_1_and_2(optimizer: Any) -> None:
    # The accumulated gradients: from the first micro-batch on the fp32 partition, to which each bucket is
    # added (stage_1_and_2.py:1303), or those of the rank's own weights (:1038). An overflow with offload
    # empties neither (:3056).
    for group in range(len(optimizer.bit16_groups)):
        optimizer.averaged_gradients[group] = None
        optimizer.all_grad_tensors[group] = None
    optimizer.micro_step_id = _BEFORE_FIRST
    for bucket in optimizer.ipg_buckets.values():
        bucket.clear()
        bucket.index = 0
    optimizer.extra_large_param_to_reduce.clear()
    optimizer.previous_reduced_grads.clear()
    optimizer.params_already_reduced = [False] * len(optimizer.params_already_reduced)
    optimizer._release_ipg_buffers()
    if optimizer.cpu_offload:
        _drop_from_host(optimizer)


def _drop_from_host(optimizer: Any) -> None:
    """Of an offloaded optimizer: host memory stays allocated, since it may be pinned."""
    optimizer.reset_cpu_buffers()  # waits for copies, and forgets norms and overflow (:2923)
    optimizer._offload_accumulated_param_ids = set()
    for gradient in optimizer.accumulated_grads_in_cpu.values():
        gradient.zero_()
    for partition in optimizer.single_partition_of_fp32_groups:
        partition.grad.zero_()


def _drop_of_stage_3(optimizer: Any) -> None:
    # Views of the partitions, whose memory stays: stage3.py:1424.
    optimizer.averaged_gradients = {}
    optimizer.grad_partitions_flat_buffer.zero_()
    for bucket in optimizer.ipg_buckets.values():
        bucket.clear_params()
        bucket.process_group = None
    for parameter in optimizer.params_already_reduced:
        optimizer.params_already_reduced[parameter] = False
    optimizer.param_reduce_events.clear()
    optimizer._offload_boundary_param_ids = set()
    if optimizer.offload_optimizer:
        optimizer.reset_cpu_buffers()
        for partition in optimizer.fp32_partitioned_groups_flat:
            if partition.grad is not None:
                partition.grad.zero_()
