"""GPUs by name: their peaks from NVIDIA's data sheets, and which of them have bf16."""

from __future__ import annotations

import pytest

from kit.config.cluster import Cluster, TaskResources, TrainingResources
from kit.config.devices import ACCELERATORS, BF16_CAPABILITY

# TFLOP/s, dense, on tensor cores; whether it multiplies bf16; GB.
SHEETS = {
    "v100": (125.0, False, 16),
    "v100-32gb": (125.0, False, 32),
    "t4": (65.0, False, 16),
    "a100": (312.0, True, 40),
    "a100-80gb": (312.0, True, 80),
    "l40s": (362.0, True, 48),
    "h100-pcie": (756.0, True, 80),
    "h100": (989.4, True, 80),
    "h200": (989.4, True, 141),
}


def test_the_peaks_are_those_of_the_data_sheets_and_bf16_begins_with_ampere() -> None:
    assert {
        name: (gpu.peak_flops / 1e12, gpu.capability >= BF16_CAPABILITY, gpu.memory / 1e9)
        for name, gpu in ACCELERATORS.items()
    } == SHEETS
    generations = {"v100": 7.0, "t4": 7.5, "a100": 8.0, "l40s": 8.9, "h100": 9.0}
    assert generations.items() <= {n: gpu.capability for n, gpu in ACCELERATORS.items()}.items()


@pytest.mark.parametrize("own", [True, False])
def test_a_job_of_the_network_has_its_own_resources_or_those_of_arrays(own: bool) -> None:
    arrays, single, network = (TaskResources(cpus=cpus) for cpus in (2, 3, 4))
    cluster = Cluster(
        name="mdx",
        kind="slurm",
        arrays=arrays,
        single=single,
        network=network if own else None,
        training=TrainingResources(ranks_per_node=1),
    )
    assert cluster.resources_of("arrays") == arrays
    assert cluster.resources_of("single") == single
    assert cluster.resources_of("network") == (network if own else arrays)
