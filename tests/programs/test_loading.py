"""A checkpoint is read by all ranks, once, and no byte of it that is damaged gets into a model."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kit.store import records
from kit.store.files import write_json
from kit.training import checkpoint, direct_io, file_in_memory, loading, state_files
from kit.training.state_files import write
from tests.programs.test_checkpoint import Table, Together, Words, begin, save

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from kit.store.paths import Run


class Rank(Together):
    """A rank that also broadcasts and gathers, with threads for ranks."""

    def __init__(self, rank: int, world_size: int, table: Table) -> None:
        super().__init__(rank, world_size, table.agree)
        self.__dict__["table"] = table

    def broadcast(self, value: Any) -> Any:
        return self._all(value)[0]

    def gather_objects(self, text: str) -> list[str]:
        return self._all(text)

    def _all(self, value: Any) -> list[Any]:
        table = self.__dict__["table"]
        values = table.__dict__.setdefault("values", {})
        values[self.rank] = value
        table.agree([0])
        found = [values[rank] for rank in range(self.world_size)]
        table.agree([0])  # all have read them
        return found


def on_ranks(number: int, work: Callable[[Rank], Any]) -> list[Any]:
    table, results = Table(number), dict[int, Any]()

    def one(rank: int) -> None:
        try:
            results[rank] = work(Rank(rank, number, table))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(number)]


def save_by(run: Run, ranks: int, step: int) -> checkpoint.Checkpoint:
    on_ranks(ranks, lambda rank: save(run, 1, step, Words(rank.rank), rank))
    return checkpoint.by_name(run, run.checkpoint(step, 1).name)


def flip(path: Path, at: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1
    path.write_bytes(whole)


def start_of(run: Run, resumed: checkpoint.Checkpoint | None) -> Any:
    return {"job": "17.0", **loading.beginning(run, resumed)}


def test_a_flipped_bit_of_any_byte_is_found(run: Run) -> None:
    begin(run, 1)
    save(run, 1, 50)
    found = checkpoint.newest(run)
    assert found is not None
    files, record = [found.folder / "checkpoint.json", *sorted(found.state.iterdir())], found.record
    for path in files:
        for at in range(0, path.stat().st_size, 1 if path.suffix == ".json" else 17):
            flip(path, at)
            damaged = found.problem(read=False)  # of the manifest; a rank that chooses looks there
            if damaged is None:
                damaged = loading.read(found, Together())
            # The last digit of a number may be another one of the same number.
            harmless = path.suffix == ".json" and isinstance(damaged, loading.Part)
            if not (harmless and found.record == record):
                assert isinstance(damaged, str), f"byte {at} of {path.name}"
            flip(path, at)
    assert found.problem(read=False) is None
    assert isinstance(loading.read(found, Together()), loading.Part)


def test_damage_in_the_file_of_one_rank_is_known_to_all_and_they_take_the_one_before(
    run: Run,
) -> None:
    begin(run, 1)
    for step in (50, 100):
        newest = save_by(run, 3, step)
    flip(newest.state / "zero_pp_rank_2_mp_rank_00.pt", 200)
    following = run.attempt(2)
    following.root.mkdir()
    start = start_of(run, checkpoint.newest(run))
    assert start["from_step"] == 100
    write_json(following.start, start)
    begun = on_ranks(3, lambda rank: loading.begin(run, following, start, rank))
    for rank, (told, part) in enumerate(begun):
        assert part.checkpoint.step == told["from_step"] == 50
        own = {"mp_rank_00_model_states.pt", f"zero_pp_rank_{rank}_mp_rank_00.pt"}
        assert part.files.keys() == own  # and no file of another rank
        assert told == records.start(following)
    names = sorted(path.name.split("-attempt")[0] for path in run.checkpoints.iterdir())
    assert [name.startswith("broken-step-00000100") for name in names] == [True, False]


def test_where_every_checkpoint_is_damaged_every_rank_says_so(run: Run) -> None:
    begin(run, 1)
    flip(save_by(run, 2, 50).state / "mp_rank_00_model_states.pt", 200)
    following = run.attempt(2)
    following.root.mkdir()
    start = start_of(run, checkpoint.newest(run))
    write_json(following.start, start)
    errors = on_ranks(2, lambda rank: loading.begin(run, following, start, rank))
    assert ["every checkpoint is broken" in str(error) for error in errors] == [True, True]


def test_another_number_of_ranks_verifies_all_files_and_keeps_none(run: Run) -> None:
    begin(run, 1)
    found = save_by(run, 3, 50)
    for part in on_ranks(2, lambda rank: loading.read(found, rank)):
        assert part.files == {}
    for path in sorted(found.state.iterdir()):
        flip(path, 200)
        told = on_ranks(2, lambda rank: loading.read(found, rank))
        assert told == [f"{path.name} has changed since it was written"] * 2
        flip(path, 200)


def test_files_are_shared_out_by_size() -> None:
    sizes = {"mp_rank_00_model_states.pt": 31, **{f"zero_pp_rank_{n}_x.pt": 23 for n in range(8)}}
    files: Any = {name: {"size": size, "xxh3": ""} for name, size in sizes.items()}
    alike = [loading.shares(files, 8, rank, 8) for rank in range(8)]
    assert alike[3] == (["mp_rank_00_model_states.pt", "zero_pp_rank_3_x.pt"], [])
    others = [loading.shares(files, 8, rank, 4) for rank in range(4)]
    assert all(needed == [] for needed, _ in others)
    shared = [name for _, verified in others for name in verified]
    assert sorted(shared) == sorted(files)
    assert sorted(sum(sizes[name] for name in verified) for _, verified in others) == [
        46,
        46,
        54,
        69,
    ]


def test_without_zero_any_number_of_ranks_loads_the_state_as_it_is() -> None:
    files: Any = {"mp_rank_00_model_states.pt": {"size": 31, "xxh3": ""}}
    assert [loading.shares(files, 2, rank, 3) for rank in range(3)] == [([*files], [])] * 3


def read_by_now() -> int:
    """Bytes that this process has read from files: `rchar`, proc_pid_io(5)."""
    words = Path("/proc/self/io").read_text(encoding="utf-8").split()
    return int(words[words.index("rchar:") + 1])


def test_a_file_is_read_once_to_be_verified_and_loaded(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    expected = write(file, {"module": torch.arange(2_000_000.0)})

    def seldom() -> None:
        raise AssertionError

    def twice() -> Any:
        file_in_memory.verify(file, expected)
        return state_files.read(file, "cpu", seldom)

    def once(*, mapped: bool) -> Any:
        with file_in_memory.read(file, expected) as found:
            return state_files.read(found, "cpu", seldom, mapped=mapped)

    read: dict[str, float] = {}
    for how, load in {
        "twice": twice,
        "mapped": lambda: once(mapped=True),
    }.items():
        before = read_by_now()
        state = load()
        read[how] = (read_by_now() - before) / expected["size"]
        assert state["module"].sum() == 1_999_999 * 1_000_000
    assert 1.99 < read["twice"] < 2.02
    assert 0.99 < read["mapped"] < 1.02
    assert torch.equal(once(mapped=False)["module"], state["module"])


def test_pages_are_made_ahead_of_a_read_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_in_memory, "_CHUNK", 64 << 10)
    file = tmp_path / "a.pt"
    expected = write(file, {"module": torch.arange(100_000.0)})
    touch, read_at = direct_io.touch, direct_io.read_at
    made, second = list[int](), threading.Event()
    reads, readers = list[int](), set[int]()

    def touched(place: memoryview) -> None:
        touch(place)
        made.append(address(place))
        if len(made) > 1:
            second.set()

    def read(descriptor: int, place: memoryview, at: int, size: int) -> int:
        assert second.wait(60), "no page is made while a chunk is read"
        assert address(place) in made
        reads.append(at)
        readers.add(threading.get_ident())
        return read_at(descriptor, place, at, size)

    monkeypatch.setattr(direct_io, "touch", touched)
    monkeypatch.setattr(direct_io, "read_at", read)
    with file_in_memory.read(file, expected, shared=True) as found:
        state = state_files.read(found, "cpu", lambda: None, mapped=True)
    assert torch.equal(state["module"], torch.arange(100_000.0))
    assert reads == [*range(0, expected["size"], 64 << 10)]  # as the kernel expects it
    assert len(readers) == 1


def address(place: memoryview) -> int:
    return int(np.frombuffer(place, np.uint8).ctypes.data)


def test_what_is_loaded_is_what_was_verified(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    expected = write(file, {"module": torch.ones(1000)})
    with file_in_memory.read(file, expected) as found:
        file.write_bytes(bytes(expected["size"]))  # the disk gives other bytes the next time
        state = state_files.read(found, "cpu", lambda: None, mapped=True)
    assert state["module"].sum() == 1000  # the memory outlives its file
