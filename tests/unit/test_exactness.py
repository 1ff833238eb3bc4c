"""What makes a resumed run differ from an uninterrupted one in its last bits, and where that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from kit.relay import status
from kit.tracking import inexact as recorded
from kit.training.bit_facts import choosing
from kit.training.exactness import _joined, inexact

if TYPE_CHECKING:
    from kit.store.records import Numerics, Topology
    from kit.training.checkpoint import Record

TWO: Topology = {"nodes": 2, "ranks_per_node": 1, "ranks": 2, "backend": "gloo"}
FACTS = {name: str(value) for name, value in TWO.items()} | {"torch": "2.13.0", "isa": "AVX512"}


def saved(facts: dict[str, str], **environment: str) -> Record:
    """The manifest of a checkpoint that was saved there."""
    return cast("Record", {"topology": TWO, "numerics": now(facts, **environment)})


def now(facts: dict[str, str], **environment: str) -> Numerics:
    return {"facts": facts, "environment": environment}


def test_the_same_circumstances_give_the_same_bits() -> None:
    assert inexact(None, now(FACTS)) == []
    assert inexact(saved(FACTS, NCCL_ALGO="Ring"), now(FACTS, NCCL_ALGO="Ring")) == []


def test_every_change_is_named_with_both_values() -> None:
    changed = FACTS | {"isa": "AVX2", "torch": "2.14.0"}
    assert inexact(
        saved(FACTS, NCCL_ALGO="Ring", MKL_CBWR="AVX2"), now(changed, NCCL_ALGO="Tree", A="1")
    ) == [
        "torch 2.13.0 -> 2.14.0", "isa AVX512 -> AVX2",
        "A not set -> 1", "MKL_CBWR AVX2 -> not set", "NCCL_ALGO Ring -> Tree",
    ]  # fmt: skip


def test_of_an_earlier_version_only_the_placement_is_compared_if_anything() -> None:
    old: Any = {"topology": TWO}
    assert inexact(old, now(FACTS, NCCL_ALGO="Ring")) == []
    assert inexact(old, now(FACTS | {"nodes": "1", "ranks_per_node": "2"})) == [
        "nodes 2 -> 1", "ranks_per_node 1 -> 2",
    ]  # fmt: skip
    assert inexact(cast("Record", {}), now(FACTS)) == []


def test_of_the_features_of_a_cpu_only_those_that_differ_are_named() -> None:
    one, other = {"cpu_features": "avx avx2 fma3"}, {"cpu_features": "avx avx2 avx512_f fma3"}
    assert inexact(saved(one), now(other)) == ["cpu_features no more -> avx512_f"]
    assert inexact(saved(other), now(one)) == ["cpu_features avx512_f -> no more"]


def test_a_fact_that_only_one_version_records_is_no_change() -> None:
    assert inexact(saved(FACTS), now(FACTS | {"cudnn": "91900"})) == []


@pytest.mark.parametrize("before", [None, saved(FACTS)])
def test_free_kernels_of_a_gpu_are_a_reason_from_the_first_step(before: Record | None) -> None:
    free = now(FACTS | {"deterministic": "false"})
    assert inexact(before, free) == ["training.deterministic is false on a GPU"]
    assert inexact(before, now(FACTS | {"deterministic": "true"})) == []


def test_ranks_that_differ_are_listed_in_their_order() -> None:
    old, new = {"isa": "AVX2"}, {"isa": "AVX512", "onednn": "1"}
    assert _joined([old, old]) == {"isa": "AVX2"}
    assert _joined([old, old, new]) == {
        "isa": "2 x AVX2, 1 x AVX512", "onednn": "2 x not set, 1 x 1",
    }  # fmt: skip
    assert _joined([new, old]) != _joined([old, new])


def test_of_the_environment_only_what_chooses_algorithms_is_recorded() -> None:
    gpu = {
        "NCCL_ALGO": "Ring", "NCCL_P2P_DISABLE": "1", "CUBLAS_WORKSPACE_CONFIG": ":16:8",
        "CUBLASLT_WORKSPACE_SIZE": "1", "NVIDIA_TF32_OVERRIDE": "0", "TORCH_BLAS_PREFER_CUBLASLT": "1",
        "CUDNN_CONV": "1",
    }  # fmt: skip
    cpu = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}
    other = {
        "NCCL_SOCKET_IFNAME": "ib0", "NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": "x", "NCCL_IB_TIMEOUT": "22",
        "NCCL_TOPO_DUMP_FILE": "x", "OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "HOME": "/home/me",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "WANDB_API_KEY": "secret", "ONEDNN_VERBOSE": "1",
    }  # fmt: skip
    every = gpu | cpu | other
    assert choosing(every, gpu=True, cpu=False) == gpu
    assert choosing(every, gpu=False, cpu=True) == cpu
    assert choosing(every, gpu=True, cpu=True) == gpu | cpu


def row(attempt: int, step: int, *reasons: str) -> Any:
    return {"kind": "attempt", "attempt": attempt, "step": step, "inexact": [*reasons]}


def test_status_says_from_where_on_and_why_and_how_many_attempts_add_to_it() -> None:
    assert recorded.attempts([row(1, 0), {"kind": "attempt", "attempt": 2, "step": 9}]) == []  # type: ignore[typeddict-item,list-item]
    found = recorded.attempts([row(1, 0), row(2, 1040, "isa A -> B", "cpu C -> D")])
    clause = "off since step 1,040 (attempt 2): isa A -> B; cpu C -> D"
    assert recorded.words(found) == clause
    found += recorded.attempts(
        [row(3, 2000, "isa A -> B", "cpu C -> D"), row(4, 3000, "isa B -> A")]
    )
    assert recorded.words(found) == f"{clause}; 1 later attempt for other reasons"
    stage = dict.fromkeys(("reason", "since", "unit", "job", "log", "starts", "next"))
    lines = [*status.details(stage | {"tail": (), "faults": (), "inexact": found[:1]})]
    assert lines == [f"  bits   bit-equality is {clause}"]
