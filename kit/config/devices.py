"""The GPUs a cluster file may name: peak FLOP/s, compute capability (for bf16), memory and power.

A name without a size is the smallest GPU of that model: `a100` has 40 GB, `a100-80gb` has 80.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """One model of GPU."""

    peak_flops: float  # dense, in bf16, or in fp16 if it has no bf16; FLOP/s
    capability: float  # CUDA's compute capability
    memory: float  # bytes
    power: float  # limit of the board as it is delivered, watts


BF16_CAPABILITY = 8.0  # Ampere, the first with native bf16 (CUDA C++ Programming Guide)
# Peaks, memory and power from NVIDIA's data sheets, without sparsity, of the SXM form where there is one
# (its limit is the highest); capabilities from its list of CUDA GPUs.
ACCELERATORS = {
    "a100": Accelerator(312e12, 8.0, 40e9, 400),
    "a100-80gb": Accelerator(312e12, 8.0, 80e9, 400),
    "h100": Accelerator(989.4e12, 9.0, 80e9, 700),  # SXM
    "h100-pcie": Accelerator(756e12, 9.0, 80e9, 350),
    "h200": Accelerator(989.4e12, 9.0, 141e9, 700),
    "l40s": Accelerator(362e12, 8.9, 48e9, 350),
    "t4": Accelerator(65e12, 7.5, 16e9, 70),
    "v100": Accelerator(125e12, 7.0, 16e9, 300),
    "v100-32gb": Accelerator(125e12, 7.0, 32e9, 300),
}
