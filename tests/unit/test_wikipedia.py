"""Wikipedia dumps: cut between streams, read without what is no article, refused where damaged."""

from __future__ import annotations

import bz2
import itertools
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.corpus import wikipedia
from kit.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from tests.unit.conftest import Desk

DEMO = Path(__file__).parents[2] / "configs/demo/jawiki-demo-pages-articles-multistream.xml.bz2"
REAL = Path(__file__).parents[3] / "shared/data/jawiki-head-multistream.xml.bz2"
real = pytest.mark.skipif(not REAL.is_file(), reason="no ../shared/data with a real dump")
DUMPS = [pytest.param(DEMO, id="demo"), pytest.param(REAL, id="real", marks=real)]
UNIT_SIZES = [1, 20_000, 300_000, 10**9]


def text_of(path: Path, unit_bytes: int) -> list[list[str]]:
    header_end, ranges = wikipedia.stream_ranges(path, unit_bytes)
    return [
        document
        for start, end in ranges
        for document in wikipedia.documents(path, header_end, start, end)
    ]


def test_the_demo_dump_is_packed_from_its_articles(pack: ModuleType, root: Path) -> None:
    dump, index = pack.multistream()
    name = "jawiki-demo-pages-articles-multistream"
    assert (root / f"configs/demo/{name}.xml.bz2").read_bytes() == dump
    packed = bz2.decompress((root / f"configs/demo/{name}-index.txt.bz2").read_bytes())
    assert packed.decode() == index


def test_the_demo_web_text_is_packed_from_its_source(root: Path) -> None:
    packed = lzma.decompress((root / "configs/demo/web.txt.xz").read_bytes())
    assert packed == (root / "configs/demo/web.txt").read_bytes()


@pytest.mark.parametrize("dump", DUMPS)
@pytest.mark.parametrize("unit_bytes", UNIT_SIZES)
def test_ranges_cover_the_dump_behind_its_header_without_a_gap(dump: Path, unit_bytes: int) -> None:
    header_end, ranges = wikipedia.stream_ranges(dump, unit_bytes)
    edges = [header_end, *(end for _, end in ranges)]
    assert [(start, end) for start, end in itertools.pairwise(edges)] == ranges
    assert edges[-1] == dump.stat().st_size
    assert all(end - start >= unit_bytes for start, end in ranges[:-1])


@pytest.mark.parametrize("dump", DUMPS)
def test_ranges_decompressed_one_by_one_are_the_whole(dump: Path) -> None:
    raw = dump.read_bytes()
    header_end, ranges = wikipedia.stream_ranges(dump, 20_000)
    parts = [bz2.decompress(raw[start:end]) for start, end in [(0, header_end), *ranges]]
    assert len(parts) > 2
    assert b"".join(parts) == bz2.decompress(raw)


@pytest.mark.parametrize("dump", [DUMPS[0]])
def test_documents_do_not_depend_on_the_size_of_a_unit(dump: Path) -> None:
    assert text_of(dump, 8_000) == text_of(dump, 10**9)


@real
def test_documents_of_a_real_dump_do_not_depend_on_the_size_of_a_unit() -> None:
    assert text_of(REAL, 1_000_000) == text_of(REAL, 10**9)


@real
def test_a_real_dump_gives_its_articles_and_no_other_page() -> None:
    documents = text_of(REAL, 10**9)
    assert 200 <= len(documents) <= 223  # of 262 pages 223 are articles; redirects have no text
    text = "\n".join(line for document in documents for line in document)
    assert len(text) > 1_000_000
    assert "<doc" not in text
    assert "[[" not in text


def test_redirects_templates_and_project_pages_are_no_documents(desk: Desk) -> None:
    documents = text_of(desk.dump, 1)
    assert [document[0].split("は")[0] for document in documents] == ["霧浜県", "灯野川", "駅伝"]
    text = "\n".join("\n".join(document) for document in documents)
    for other in ("雛形", "話し合い", "転送"):
        assert other not in text


def test_a_document_has_neither_tags_nor_empty_lines(desk: Desk) -> None:
    assert wikipedia.clean("一<br>二\n\n <ref>三</ref> \n<div>\n") == ["一二", "三"]
    for document in text_of(desk.dump, 10**9):
        assert document
        assert all(line == line.strip() and line for line in document)


def test_an_entity_that_is_no_character_does_not_stop_the_unit(
    desk: Desk, pack: ModuleType
) -> None:
    from collections import Counter

    from kit.corpus.preprocess import segment_document
    from kit.corpus.segment import MeCab

    pages = pack.page(1, "実体", 0, None, "壊れた実体&#xD800;がある。") + pack.page(
        2, "次", 0, None, "次の頁も読める。"
    )
    texts = [pack.HEADER, pages, "</mediawiki>\n"]
    desk.dump.write_bytes(b"".join(bz2.compress(text.encode()) for text in texts))
    documents = text_of(desk.dump, 1)
    assert documents[-1] == ["次の頁も読める。"]
    for document in documents:
        segment_document(document, "default", MeCab(), Counter())


def refusal(path: Path) -> str:
    """The one line that answers an attempt to read the dump to its end."""
    with pytest.raises(InputError) as caught:
        text_of(path, 1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dump_cut_in_its_last_stream_is_refused_with_the_place(
    desk: Desk, streams: list[bytes]
) -> None:
    start = sum(map(len, streams[:-1]))
    for kept in (12, len(streams[-1]) - 1):
        desk.dump.write_bytes(b"".join(streams)[: start + kept])
        assert f"at byte {start} is cut" in refusal(desk.dump)


def test_a_dump_cut_in_a_stream_of_pages_is_refused_with_the_place(
    desk: Desk, streams: list[bytes]
) -> None:
    start = sum(map(len, streams[:2]))
    desk.dump.write_bytes(b"".join(streams)[: start + len(streams[2]) // 2])
    assert f"at byte {start} is cut" in refusal(desk.dump)


@pytest.mark.parametrize("kept", [2, 3])
def test_a_dump_cut_between_streams_is_refused(desk: Desk, streams: list[bytes], kept: int) -> None:
    desk.dump.write_bytes(b"".join(streams[:kept]))
    line = refusal(desk.dump)
    assert f"the stream at byte {sum(map(len, streams[: kept - 1]))} does not close it" in line


@pytest.mark.parametrize("extra", [1, 3, 9])
def test_a_dump_cut_behind_the_first_bytes_of_a_stream_is_refused(
    desk: Desk, streams: list[bytes], extra: int
) -> None:
    whole = sum(map(len, streams[:3]))
    desk.dump.write_bytes(b"".join(streams)[: whole + extra])
    assert f"byte {whole}" in refusal(desk.dump)


def test_a_damaged_stream_is_refused_with_the_place(desk: Desk, streams: list[bytes]) -> None:
    raw = bytearray(b"".join(streams))
    start = len(streams[0]) + len(streams[1])
    raw[start + len(streams[2]) // 2] ^= 0xFF
    desk.dump.write_bytes(bytes(raw))
    assert f"damaged bz2 stream at byte {start} " in refusal(desk.dump)


def test_a_damaged_header_is_refused_with_the_place(desk: Desk, streams: list[bytes]) -> None:
    raw = bytearray(b"".join(streams))
    raw[len(streams[0]) // 2] ^= 0xFF
    desk.dump.write_bytes(bytes(raw))
    assert "damaged bz2 stream at byte 0 " in refusal(desk.dump)


@pytest.mark.parametrize("content", [b"", b"<mediawiki>", b"PK\x03\x04", b"BZh", b"BZh9"])
def test_what_is_no_bz2_file_is_refused(desk: Desk, content: bytes) -> None:
    desk.dump.write_bytes(content)
    refusal(desk.dump)


def test_a_dump_of_one_stream_is_refused(desk: Desk, streams: list[bytes]) -> None:
    desk.dump.write_bytes(bz2.compress(b"".join(map(bz2.decompress, streams))))
    assert "give a multistream dump" in refusal(desk.dump)
