"""The GPUs a cluster file may name: their peak, and whether they have bf16."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """One model of GPU."""

    peak_flops: float  # dense, in bf16, or in fp16 if it has no bf16; FLOP/s
    capability: float  # CUDA's compute capability


BF16_CAPABILITY = 8.0  # from which on a GPU has bf16 by itself: Ampere (CUDA C++ Programming Guide)
# Peaks from NVIDIA's data sheets, without sparsity; capabilities from its list of CUDA GPUs.
ACCELERATORS = {
    "a100": Accelerator(312e12, 8.0),
    "h100": Accelerator(989.4e12, 9.0),  # SXM
    "h100-pcie": Accelerator(756e12, 9.0),
    "h200": Accelerator(989.4e12, 9.0),
    "l40s": Accelerator(362e12, 8.9),
    "t4": Accelerator(65e12, 7.5),
    "v100": Accelerator(125e12, 7.0),
}
