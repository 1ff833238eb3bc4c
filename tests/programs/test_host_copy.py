"""The copy of a state in host memory: what it holds, and the memory it takes."""

from __future__ import annotations

import mmap
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kit.errors import ConfigError
from kit.training.device import Device
from kit.training.host_copy import HostCopy, aligned, tensors
from kit.training.state_files import write
from tests.programs.test_engine import MUON, STAGES, engine, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir


def test_a_copy_is_not_changed_by_what_the_loop_does_next() -> None:
    copy = HostCopy()
    tied = torch.arange(6.0)
    state = {"a": tied, "b": [tied, {"step": 3}], "rest": torch.zeros(0)}
    taken = copy.take("file", state)
    tied += 1
    assert taken["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert taken["b"][0] is taken["a"]
    assert taken["b"][1] == {"step": 3}
    again = copy.take("file", state)
    assert again["a"].tolist() == [1, 2, 3, 4, 5, 6]
    assert again["a"].data_ptr() == taken["a"].data_ptr()  # no new memory for each save


def test_memory_is_as_large_as_the_state_and_locked_before_the_first_copy() -> None:
    locked: list[tuple[int, int]] = []
    copy = HostCopy(lambda address, size: locked.append((address, size)))
    tied = torch.zeros(3 << 10)  # 12 KiB, which torch's own allocator would make 16
    state = {
        "a": tied,
        "again": [tied, tied.view(2, -1)],
        "b": torch.ones(7, dtype=torch.int8),
        "n": 1,
    }
    size = sum(aligned(tensor.nbytes) for tensor in tensors(state))
    assert size == 2 * (12 << 10) + 4096  # a view of another shape is copied for itself
    copy.reserve(size)
    ((address, bytes_),) = locked
    assert address % mmap.PAGESIZE == 0
    assert bytes_ == size
    for _ in range(2):
        taken = copy.take("file", state)
        places = [taken[name].data_ptr() for name in ("a", "b")]
        assert all(address <= place < address + size for place in places)
        assert taken["again"][0] is taken["a"]
    assert len(locked) == 1


def test_a_file_holds_its_own_tensors_and_not_the_memory_around_them(tmp_path: Path) -> None:
    copy = HostCopy()
    copy.reserve(1 << 20)
    first = copy.take("first", {"a": torch.arange(8), "b": torch.ones(2, 2)})
    second = copy.take("second", {"c": torch.zeros(3, dtype=torch.bfloat16)})
    assert write(tmp_path / "first.pt", first)["size"] < 64 << 10
    write(tmp_path / "second.pt", second)
    assert torch.load(tmp_path / "first.pt")["b"].tolist() == [[1, 1], [1, 1]]
    assert torch.load(tmp_path / "second.pt")["c"].dtype == torch.bfloat16


@pytest.mark.parametrize(("deepspeed", "precision"), STAGES + MUON[2:])
def test_an_engine_has_all_memory_of_its_saves_before_the_first_step(
    workdir: Workdir, alone: None, deepspeed: str, precision: str
) -> None:
    (workdir.folder / "zero2.json").write_text(deepspeed, encoding="utf-8")
    one = engine(workdir, precision)
    one.reserve()
    reserved = [*one._files._copy.reserved]
    step(one, 0)
    captured = one.capture(1)
    assert one._files._copy.reserved == reserved
    parts = [tensor for state in captured.values() for tensor in tensors(state)]
    assert reserved == [sum(aligned(part.nbytes) for part in parts)]


def test_the_driver_locks_memory_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    answers = iter([0, 2])

    def register(*arguments: int) -> int:
        calls.append(arguments)
        return next(answers)

    driver: Any = SimpleNamespace(cudaHostRegister=register)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    device = Device("cuda", 0)
    device.pin(4096, 2_340_000_000)
    assert calls == [(4096, 2_340_000_000, 1)]
    with pytest.raises(ConfigError, match=r"2\.34 GB of host memory .* cannot be locked .*error 2"):
        device.pin(4096, 2_340_000_000)
