"""The host memory of a node in training, part by part: that of all its ranks together.

    parts = host.parts(setup, ranks=8)        # processes, an offloaded optimizer, the copy for a save ...
    host.total(parts)                         # bytes, at the peak

The peak is either the start, when each rank builds the model and reads its files of a checkpoint, or the
steps, when there is the copy in which a save goes on. Pages of the file system's cache do not count: the
kernel gives them up.

Nothing of it has been measured on a GPU: sizes are computed, the process of a rank is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.plan import memory
from kit.plan.memory import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kit.plan.memory import Setup

GPU_PROCESS = 3.5e9  # assumed: a rank's Python, torch, the libraries of CUDA and NCCL's buffers
_FP32 = 4
_AT_START = ("a checkpoint being read", "model being built")
_IN_STEPS = ("copy for a save",)


def parts(setup: Setup, ranks: int) -> list[Part]:
    """The parts on rank 0's node, which has `ranks` ranks."""
    weights = setup.parameters * setup.item
    own = memory.own_bytes(setup.parameters, setup.ranks, setup.matrices)
    copy = copied_bytes(setup, ranks)
    share = "of the whole" if setup.stage == 3 else "of the optimizer, and rank 0's weights"
    read = own + (weights / setup.ranks if setup.stage == 3 else weights)
    return [
        _processes(setup, ranks),
        Part("offloaded optimizer", memory.host_bytes(setup) * ranks, "16 bytes per parameter"),
        Part(_IN_STEPS[0], copy, f"each rank's part {share}"),
        Part(_AT_START[0], read * ranks, "each rank's files; given back before the first step"),
        Part(
            _AT_START[1],
            setup.parameters * _FP32 * ranks if setup.gpu else 0.0,
            "4 bytes per parameter of each rank, before it is on its GPU"
            if setup.gpu
            else "the model of the training",
        ),
    ]


def total(found: Sequence[Part]) -> float:
    """The memory of the node at its peak, in bytes."""
    sizes = {part.name: part.bytes for part in found}
    start, steps = (sum(sizes.pop(name) for name in names) for names in (_AT_START, _IN_STEPS))
    return sum(sizes.values()) + max(start, steps)


def copied_bytes(setup: Setup, ranks: int) -> float:
    """The parts of a checkpoint that the ranks of rank 0's node copy and write."""
    weights = setup.parameters * setup.item
    if setup.stage == 3:
        weights = weights * ranks // setup.ranks
    return weights + memory.own_bytes(setup.parameters, setup.ranks, setup.matrices) * ranks


def _processes(setup: Setup, ranks: int) -> Part:
    if setup.gpu:
        return Part("processes", GPU_PROCESS * ranks, f"{ranks} of 3.5 GB, assumed")
    # On a CPU the memory of a rank is host memory, and includes rank 0's copy.
    own = memory.captured_bytes(setup.parameters, setup.item, setup.ranks, setup.matrices)
    each = memory.total(setup) - own
    return Part("processes", max(each * ranks, 0.0), f"{ranks} ranks as above, without the copy")
