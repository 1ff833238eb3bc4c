"""Multistream dumps: cut between streams, by the index or by scanning; read in bounded pieces."""

from __future__ import annotations

import bz2
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.corpus.bad_input import BadInput
from kit.corpus.dump import multistream
from kit.errors import InputError

if TYPE_CHECKING:
    from tests.conftest import Workdir

DEMO = Path(__file__).parents[2] / "configs/demo/jawiki-demo-pages-articles-multistream.xml.bz2"
DEMO_INDEX = DEMO.with_name(DEMO.name.replace(".xml.bz2", "-index.txt.bz2"))


def index_of(workdir: Workdir, text: str | bytes) -> Path:
    path = workdir.folder / "index.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(dump: Path, index: Path) -> str:
    with pytest.raises(InputError) as caught:
        multistream.stream_ranges(dump, 1, index)
    assert str(index) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_index_may_be_plain_text(workdir: Workdir) -> None:
    index = index_of(workdir, bz2.decompress(DEMO_INDEX.read_bytes()))
    assert multistream.stream_ranges(DEMO, 1, index) == multistream.stream_ranges(DEMO, 1)


def test_behind_the_end_of_an_index_the_dump_is_scanned(workdir: Workdir) -> None:
    lines = bz2.decompress(DEMO_INDEX.read_bytes()).splitlines(keepends=True)
    index = index_of(workdir, b"".join(lines[:25]))
    assert multistream.stream_ranges(DEMO, 1, index) == multistream.stream_ranges(DEMO, 1)


def test_the_index_is_what_is_gone_by(workdir: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the index is right, only what lies behind its last stream is scanned."""
    scanned: list[int] = []
    scan = multistream._scan

    def noted(path: Path, at: int, end: int | None = None) -> object:
        scanned.append(at)
        return scan(path, at, end)

    monkeypatch.setattr(multistream, "_scan", noted)
    ranges = multistream.stream_ranges(DEMO, 1, DEMO_INDEX)[1]
    assert scanned == [ranges[-2][0] + 1]


def test_a_stream_is_found_across_the_edges_of_what_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    want = multistream.stream_ranges(DEMO, 1)
    for size in (1, 7, 64):
        monkeypatch.setattr(multistream, "CHUNK", size)
        assert list(multistream._scan(DEMO, 0))[1:] == [start for start, _ in want[1]]
    monkeypatch.setattr(multistream, "CHUNK", 1 << 20)
    assert next(multistream._scan(DEMO, want[0] + 1, want[1][1][0]), None) is None


def test_an_index_that_names_bytes_behind_the_end_is_refused(workdir: Workdir) -> None:
    size = workdir.dump.stat().st_size
    index = index_of(workdir, f"{size - 5}:1:題\n")
    line = refusal(workdir.dump, index)
    assert f"refers to byte {size - 5}, but {workdir.dump} has only {size}" in line


def test_an_index_of_another_dump_is_refused(workdir: Workdir, streams: list[bytes]) -> None:
    first = len(streams[0])
    index = index_of(workdir, f"{first}:1:甲\n{first + 5}:2:乙\n{first + 20}:3:丙\n")
    assert "belongs to another dump" in refusal(workdir.dump, index)


@pytest.mark.parametrize(
    "text", ["718\n", "718:1:甲\n17:2:乙\n", "x:1:甲\n", "9" * 5000, "-1:1:甲\n", b"\xff\0:"]
)
def test_what_is_no_index_is_refused_with_the_line(text: str | bytes, workdir: Workdir) -> None:
    number = 2 if isinstance(text, str) and text.count("\n") == 2 else 1
    if text == "718\n":
        text = f"{workdir.dump.stat().st_size // 2}x\n"
    assert f"line {number}: not a line `offset:page id:title`" in refusal(
        workdir.dump, index_of(workdir, text)
    )


def test_an_index_that_is_cut_is_refused(workdir: Workdir) -> None:
    packed = DEMO_INDEX.read_bytes()
    assert "cannot be read" in refusal(DEMO, index_of(workdir, packed[: len(packed) // 2]))


def test_a_dump_with_a_damaged_start_of_a_stream_is_scanned(
    workdir: Workdir, streams: list[bytes]
) -> None:
    raw = bytearray(b"".join(streams))
    first, second = len(streams[0]), len(streams[0]) + len(streams[1])
    raw[second + 5] ^= 0xFF
    workdir.dump.write_bytes(bytes(raw))
    index = index_of(workdir, f"{first}:1:甲\n{second}:4:乙\n")
    ranges = multistream.stream_ranges(workdir.dump, 1, index)
    assert ranges == multistream.stream_ranges(workdir.dump, 1)
    assert len(ranges[1]) == 2
    faults = BadInput("skip")
    found = [
        at
        for start, end in ranges[1]
        for at, _, _ in multistream.streams(workdir.dump, start, end, faults)
    ]
    assert found == [first, second + len(streams[2])]
    assert f"stream at byte {second} " in faults.places["stream_damaged"][0]


def test_the_streams_of_a_range_are_given_with_their_places(
    workdir: Workdir, streams: list[bytes]
) -> None:
    start = len(streams[0])
    end = start + len(streams[1]) + len(streams[2])
    given = {
        at: b"".join(pieces)
        for at, _, pieces in multistream.streams(workdir.dump, start, end, BadInput("stop"))
    }
    middle = start + len(streams[1])
    assert given == {start: bz2.decompress(streams[1]), middle: bz2.decompress(streams[2])}


def test_a_damaged_stream_gives_nothing_of_what_stands_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "streams"
    raw = bytearray(bz2.compress(bytes(range(256)) * 3000, 1))  # some blocks of 100 kB
    raw[-20] ^= 0xFF
    path.write_bytes(bytes(raw) + bz2.compress(b"whole"))
    faults = BadInput("skip")
    given = list(multistream.streams(path, 0, path.stat().st_size, faults))
    assert given == [(len(raw), path.stat().st_size, [b"whole"])]
    assert faults.counts == {"stream_damaged": 1}


def test_a_bomb_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "streams"
    path.write_bytes(bz2.compress(bytes(12 << 20)))
    monkeypatch.setattr(multistream, "HELD", 1 << 20)
    tracemalloc.start()
    try:
        for _, _, pieces in multistream.streams(path, 0, path.stat().st_size, BadInput("stop")):
            assert sum(map(len, pieces)) == 12 << 20
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
