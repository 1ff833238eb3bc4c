"""A dump whose streams end anywhere gives each page once, whatever the ranges."""

from __future__ import annotations

import bz2
import itertools
from typing import TYPE_CHECKING

import pytest

from kit.corpus.bad_input import BadInput
from kit.corpus.dump import continuous
from kit.corpus.dump.multistream import stream_ranges

if TYPE_CHECKING:
    from pathlib import Path

HEADER = b"<mediawiki>\n  <siteinfo>\n  </siteinfo>\n"
PAGES = [f"<page>{number}{'頁' * number}</page>".encode() for number in range(12)]
TEXT = HEADER + b"\n  ".join(PAGES) + b"\n</mediawiki>\n"


def pack(path: Path, size: int) -> list[int]:
    """Write the text as streams of `size` bytes each; returns their starts and the end of the last."""
    streams = [bz2.compress(TEXT[i : i + size]) for i in range(0, len(TEXT), size)]
    path.write_bytes(b"".join(streams))
    return [sum(map(len, streams[:number])) for number in range(len(streams) + 1)]


def pages(path: Path, start: int, end: int, bad_input: BadInput) -> list[bytes]:
    runs = continuous.runs(path, start, end, bad_input)
    return [b"".join(pieces) for _, _, pieces in runs]


@pytest.mark.parametrize("size", [7, 8, 9, 10, 11, 13, 29, 61, 97, 10_000])
@pytest.mark.parametrize("streams", [1, 2, 5])
def test_every_page_comes_once(size: int, streams: int, tmp_path: Path) -> None:
    starts = pack(tmp_path / "dump", size)
    edges = [*starts[:-1:streams], starts[-1]]
    found = [
        pages(tmp_path / "dump", start, end, BadInput("stop"))
        for start, end in itertools.pairwise(edges)
    ]
    assert b"".join(text for texts in found for text in texts) == b"".join(PAGES)


@pytest.mark.parametrize("damaged", [3, 6, 9])
def test_a_damaged_stream_costs_the_pages_that_it_cuts(damaged: int, tmp_path: Path) -> None:
    starts = pack(tmp_path / "dump", 50)
    raw = bytearray((tmp_path / "dump").read_bytes())
    raw[(starts[damaged] + starts[damaged + 1]) // 2] ^= 0xFF
    (tmp_path / "dump").write_bytes(raw)
    intact = [page for page in PAGES if not _touches(TEXT.index(page), len(page), damaged)]
    for edges in (starts, [starts[0], starts[-1]]):
        bad_input = BadInput("skip")
        found = [
            text
            for start, end in itertools.pairwise(edges)
            for text in pages(tmp_path / "dump", start, end, bad_input)
        ]
        assert bad_input.counts == {"stream_damaged": 1}
        whole = [f"{page}</page>".encode() for text in found for page in _split(text)]
        assert whole == intact


def _touches(begin: int, length: int, damaged: int) -> bool:
    return begin < (damaged + 1) * 50 and begin + length > damaged * 50


def _split(text: bytes) -> list[str]:
    """The pages that end, without their closing tags; the last piece has lost its end."""
    return text.decode(errors="ignore").split("</page>")[:-1]


@pytest.mark.parametrize("size", [20, 50])
def test_such_a_dump_is_told_by_its_first_stream(size: int, tmp_path: Path) -> None:
    starts = pack(tmp_path / "dump", size)
    first, ranges = stream_ranges(tmp_path / "dump", 1)
    assert first == 0
    assert (ranges[0][0], ranges[-1][1]) == (0, starts[-1])
    assert continuous.header(tmp_path / "dump", starts[-1], 1 << 20).startswith(HEADER)
