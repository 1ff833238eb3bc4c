"""Wikipedia dumps: read as their articles, whatever the cut; what is broken is told or passed over."""

from __future__ import annotations

import bz2
import itertools
import lzma
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.config.recipe import Normalise
from kit.corpus import segment, sentences, wikipedia
from kit.corpus.bad_input import BadInput
from kit.corpus.dump import multistream
from kit.corpus.normalise.normaliser import Normaliser
from kit.errors import InputError
from tests.dump import DUMP, needs_dump

if TYPE_CHECKING:
    from types import ModuleType

    from tests.conftest import Workdir

DEMO = Path(__file__).parents[2] / "configs/demo/jawiki-demo-pages-articles-multistream.xml.bz2"
DUMPS = [pytest.param(DEMO, id="demo"), pytest.param(DUMP, id="real", marks=needs_dump)]
UNIT_SIZES = [1, 20_000, 300_000, 10**9]


def pieces_of(path: Path, unit_bytes: int, title: str = "line") -> list[dict[str, Any]]:
    header_end, ranges = wikipedia.stream_ranges(path, unit_bytes)
    common = {"path": str(path), "header_end": header_end, "title": title}
    return [common | {"start": start, "end": end} for start, end in ranges]


def text_of(
    path: Path,
    unit_bytes: int,
    mode: str = "default",
    title: str = "drop",
    faults: BadInput | None = None,
) -> list[list[str]]:
    met = faults or BadInput("stop")
    return [
        document
        for piece in pieces_of(path, unit_bytes, title)
        for document in wikipedia.documents(piece, met, mode)
    ]


def pack_dump(path: Path, pack: ModuleType, *streams: str | bytes, header: str = "") -> None:
    """A dump of a header, streams of these texts, and the closing tag."""
    texts = [header or pack.HEADER, *streams, "</mediawiki>\n"]
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    path.write_bytes(b"".join(map(bz2.compress, raw)))


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


@needs_dump
def test_documents_of_a_real_dump_do_not_depend_on_the_size_of_a_unit() -> None:
    assert text_of(DUMP, 1_000_000) == text_of(DUMP, 10**9)


@needs_dump
def test_a_real_dump_gives_its_articles_and_no_other_page() -> None:
    documents = text_of(DUMP, 10**9)
    assert 200 <= len(documents) <= 223  # of 262 pages 223 are articles; redirects have no text
    text = "\n".join(line for document in documents for line in document)
    assert len(text) > 1_000_000
    assert "<doc" not in text
    assert "[[" not in text


def test_redirects_templates_and_project_pages_are_no_documents(workdir: Workdir) -> None:
    documents = text_of(workdir.dump, 1)
    assert [document[0].split("は")[0] for document in documents] == ["霧浜県", "灯野川", "駅伝"]
    text = "\n".join("\n".join(document) for document in documents)
    for other in ("雛形", "話し合い", "転送"):
        assert other not in text


def test_a_document_has_neither_tags_nor_empty_lines(workdir: Workdir) -> None:
    for document in text_of(workdir.dump, 10**9):
        assert document
        assert all(line == line.strip() and line for line in document)


def test_an_entity_that_is_no_character_does_not_stop_the_unit(
    workdir: Workdir, pack: ModuleType
) -> None:
    pages = pack.page(1, "実体", 0, None, "壊れた実体&#xD800;がある。") + pack.page(
        2, "次", 0, None, "次の頁も読める。"
    )
    pack_dump(workdir.dump, pack, pages)
    documents = text_of(workdir.dump, 1)
    assert documents[-1] == ["次の頁も読める。"]
    normaliser = Normaliser("default", Normalise())
    with segment.open(*segment.resolve("mecab"), 1) as words:
        for document in documents + text_of(workdir.dump, 1, "article"):
            lines = normaliser.lines(document)[0]
            whole = [sentence for line in lines for sentence in sentences.split(line)]
            (segmented,) = words.stream([whole])
            assert [text.replace(" ", "") for text in segmented] == whole


def refusal(path: Path) -> str:
    """The one line that answers an attempt to read the dump to its end."""
    with pytest.raises(InputError) as caught:
        text_of(path, 1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dump_cut_in_its_last_stream_is_refused_with_the_place(
    workdir: Workdir, streams: list[bytes]
) -> None:
    start = sum(map(len, streams[:-1]))
    for kept in (12, len(streams[-1]) - 1):
        workdir.dump.write_bytes(b"".join(streams)[: start + kept])
        assert f"at byte {start} is truncated" in refusal(workdir.dump)


def test_a_dump_cut_in_a_stream_of_pages_is_refused_with_the_place(
    workdir: Workdir, streams: list[bytes]
) -> None:
    start = sum(map(len, streams[:2]))
    workdir.dump.write_bytes(b"".join(streams)[: start + len(streams[2]) // 2])
    assert f"at byte {start} is truncated" in refusal(workdir.dump)


@pytest.mark.parametrize("kept", [2, 3])
def test_a_dump_cut_between_streams_is_refused(
    workdir: Workdir, streams: list[bytes], kept: int
) -> None:
    workdir.dump.write_bytes(b"".join(streams[:kept]))
    line = refusal(workdir.dump)
    assert (
        f"its last stream, at byte {sum(map(len, streams[: kept - 1]))}, does not close it" in line
    )


@pytest.mark.parametrize("extra", [1, 3, 9])
def test_a_dump_cut_behind_the_first_bytes_of_a_stream_is_refused(
    workdir: Workdir, streams: list[bytes], extra: int
) -> None:
    whole = sum(map(len, streams[:3]))
    workdir.dump.write_bytes(b"".join(streams)[: whole + extra])
    assert f"byte {whole}" in refusal(workdir.dump)


def test_a_damaged_stream_is_refused_with_the_place(workdir: Workdir, streams: list[bytes]) -> None:
    raw = bytearray(b"".join(streams))
    start = len(streams[0]) + len(streams[1])
    raw[start + len(streams[2]) // 2] ^= 0xFF
    workdir.dump.write_bytes(bytes(raw))
    assert f"damaged bz2 stream at byte {start} " in refusal(workdir.dump)


def test_a_damaged_header_is_refused_with_the_place(workdir: Workdir, streams: list[bytes]) -> None:
    raw = bytearray(b"".join(streams))
    raw[len(streams[0]) // 2] ^= 0xFF
    workdir.dump.write_bytes(bytes(raw))
    assert "damaged bz2 stream at byte 0 " in refusal(workdir.dump)


@pytest.mark.parametrize("content", [b"", b"<mediawiki>", b"PK\x03\x04", b"BZh", b"BZh9"])
def test_what_is_no_bz2_file_is_refused(workdir: Workdir, content: bytes) -> None:
    workdir.dump.write_bytes(content)
    refusal(workdir.dump)


def test_a_dump_of_one_stream_is_refused(workdir: Workdir, streams: list[bytes]) -> None:
    workdir.dump.write_bytes(bz2.compress(b"".join(map(bz2.decompress, streams))))
    assert "give a multistream dump" in refusal(workdir.dump)


@pytest.mark.parametrize("unit_bytes", UNIT_SIZES)
@pytest.mark.parametrize("dump", DUMPS)
def test_an_index_gives_the_ranges_that_a_scan_gives(dump: Path, unit_bytes: int) -> None:
    index = dump.with_name(dump.name.replace(".xml.bz2", "-index.txt.bz2"))
    by_index = wikipedia.stream_ranges(dump, unit_bytes, index)
    assert by_index == wikipedia.stream_ranges(dump, unit_bytes)


@pytest.mark.parametrize("dump", DUMPS)
def test_article_mode_gives_what_wikiextractor_and_sed_give(dump: Path, tmp_path: Path) -> None:
    xml = tmp_path / "dump.xml"
    xml.write_bytes(bz2.decompress(dump.read_bytes()))
    command = f"{sys.executable} -m wikiextractor.WikiExtractor -q --no-templates -o - {xml}"
    plain = subprocess.run(
        f"{command} | sed 's/<[^>]*>//g'", shell=True, capture_output=True, check=True, text=True
    )
    lines = [line for line in plain.stdout.split("\n") if line]
    assert len(lines) > 100
    documents = text_of(dump, 300_000, "article", "line")
    assert [line for document in documents for line in document] == lines


def test_the_title_is_the_first_line_unless_it_is_dropped(
    workdir: Workdir, pack: ModuleType
) -> None:
    pack_dump(
        workdir.dump,
        pack,
        pack.page(1, "R&D", 0, None, "研究（）である。"),
        pack.page(2, "空", 0, None, ""),
    )
    assert text_of(workdir.dump, 1, "default", "line") == [["R&D", "研究である。"]]
    assert text_of(workdir.dump, 1, "default", "drop") == [["研究である。"]]
    article = [["R&amp;D", "研究（）である。"], ["空"]]  # as the article's pipeline had it
    assert text_of(workdir.dump, 1, "article", "line") == article
    assert text_of(workdir.dump, 1, "article", "drop") == [["研究（）である。"]]


@pytest.mark.parametrize("name", ["Template Method パターン", "Template:甲"])
def test_an_article_named_like_a_template_is_an_article(
    name: str, workdir: Workdir, pack: ModuleType
) -> None:
    pack_dump(workdir.dump, pack, pack.page(1, name, 0, None, "雛形である。"))
    assert text_of(workdir.dump, 1, "default", "line") == [[name, "雛形である。"]]


def test_the_day_of_the_run_does_not_get_into_the_text(workdir: Workdir, pack: ModuleType) -> None:
    text = "{{CURRENTYEAR}}年{{ currentmonth }}月{{CURRENTDAY}}日{{CURRENTHOUR}}時、{{CURRENTTIME}}のこと。"
    page = pack.page(1, "今", 0, None, text)
    before, _, after = page.partition("<timestamp>")
    dated = (
        f"{before}<timestamp>2019-05-07T13:24:35Z</timestamp>{after.partition('</timestamp>')[2]}"
    )
    pack_dump(workdir.dump, pack, dated)
    assert text_of(workdir.dump, 1) == [["2019年05月07日13時、13:24:35のこと。"]]


SEEN = {  # wikitext, and the lines that a reader saw
    "数": (
        "面積は{{formatnum:1234567}}平方キロメートルである。{{要出典範囲|距離は百キロメートルである|date=2020年}}。",
        ["面積は1,234,567平方キロメートルである。距離は百キロメートルである。"],
    ),
    "仮リンク": (
        "参加者は{{仮リンク|ジョン・スミス|en|John Smith}}と{{lang|en|Jane Doe}}である。"
        "{{読み仮名|駅伝|えきでん}}は長い。{{ruby|襷|たすき}}を渡す。",
        ["参加者はジョン・スミスとJane Doeである。駅伝（えきでん）は長い。襷（たすき）を渡す。"],
    ),
    "数式": (
        "速さは<math>v = d/t</math>で、速い。関数は<code>print(x)</code>である。"
        "<syntaxhighlight lang=\"python\">print('hello')</syntaxhighlight>次の段落。",
        ["関数はprint(x)である。", "print('hello')", "次の段落。"],
    ),
    "化学": ("水はH<sub>2</sub>O、10<sup>3</sup>である。", ["水はH₂O、10³である。"]),
    "表": (
        '{| class="wikitable"\n! 見出し !! 列\n|-\n| 値一 || 値二\n|}\n本文が続く。\n* 箇条一\n# 番号一\n'
        "; 用語\n: 説明\n:*項目\n:;項目\n== 節 ==\n節の本文。",
        ["本文が続く。", "箇条一", "番号一", "用語", "説明", "項目", "項目", "節", "節の本文。"],
    ),
    "入れ子": (
        "{{Infobox|名前={{lang|ja|駅}}|画像=[[ファイル:A.jpg|thumb|説明 [[駅]]]]}}'''入れ子'''は"
        "[[ファイル:B.jpg|thumb|図の説明は[[駅伝|えきでん]]です]]本文です。"
        "[[駅伝#歴史|歴史]]と[http://example.com 外部 リンク]と[[:en:Ekiden]]。",
        ["入れ子は本文です。歴史と外部 リンクとen:Ekiden。"],
    ),
    "年": ("{{年数|1920|1|1|2022|7|1}}年前、{{和暦|1920}}。", ["102年前、1920年（大正9年）。"]),
    "転送だけ": ("#転送 [[駅伝]]", []),
    "壊れ": (
        "閉じない {{甲|乙 続く。\n[[閉じない\n'''太字",
        ["閉じない {{甲|乙 続く。", "[[閉じない", "太字"],
    ),
    "不等号": ("a < b かつ &lt;タグ&gt; は AT&T と &amp;。", ["a < b かつ <タグ> は AT&T と &。"]),
    "変換": ("-{zh-hans:简;zh-hant:繁}-と{{PAGENAME}}。", ["-{zh-hans:简;zh-hant:繁}-と変換。"]),
}


def _seen_pages(pack: ModuleType) -> str:
    return "".join(
        pack.page(number, title, 0, None, wikitext)
        for number, (title, (wikitext, _)) in enumerate(SEEN.items())
    )


def test_an_article_is_what_its_reader_saw(workdir: Workdir, pack: ModuleType) -> None:
    pack_dump(workdir.dump, pack, _seen_pages(pack))
    found = text_of(workdir.dump, 1, "default", "line")
    assert found == [[title, *lines] for title, (_, lines) in SEEN.items() if lines]
    text = "\n".join(line for document in found for line in document)
    assert "formula_" not in text
    assert "codice_" not in text


@pytest.mark.parametrize("mode", ["default", "article"])
@pytest.mark.parametrize("unit_bytes", [1, 1500])
def test_a_dump_packed_by_pbzip2_gives_the_same_documents(
    mode: str, unit_bytes: int, workdir: Workdir, pack: ModuleType, tmp_path: Path
) -> None:
    pack_dump(workdir.dump, pack, _seen_pages(pack))
    text = bz2.decompress(workdir.dump.read_bytes())
    packed = tmp_path / "pbzip2.xml.bz2"
    packed.write_bytes(
        b"".join(bz2.compress(text[i : i + 1900]) for i in range(0, len(text), 1900))
    )
    assert len(pieces_of(packed, 1)) > 2
    assert text_of(packed, unit_bytes, mode) == text_of(workdir.dump, 1, mode)


@needs_dump
def test_a_real_dump_has_no_holes() -> None:
    documents = text_of(DUMP, 10**9)
    begin = {document[0][:2] for document in documents}
    assert not begin & {"は、", "が、", "を、", "とは"}
    assert not any(head.startswith("、") for head in begin)
    text = "\n".join(line for document in documents for line in document)
    holes = sum(map(text.count, ("「」", "『』", "、、", "。。")))
    assert holes / len(documents) < 0.03  # those of the source itself
    assert "formula_" not in text
    assert "codice_" not in text


GOOD = "良い頁である。"
BROKEN = {
    "not UTF-8": ("not_utf8", "壊れた頁".encode() + b"\xe3\x81"),
    "NUL": ("page_malformed", b"a\0b"),
    "a tag in the text": ("page_malformed", b"a <b> c"),
    "two revisions": ("page_malformed", b"a</text></revision><revision><text>b"),
    "too large": ("page_too_large", b"a" * 9000),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_page_is_told_or_passed_over(
    kind: str, workdir: Workdir, pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wikipedia, "PAGE", 8000)
    count, text = BROKEN[kind]
    pages = [pack.page(number, f"題{number}", 0, None, GOOD).encode() for number in (1, 2, 3)]
    pages[1] = pages[1].replace(GOOD.encode(), text)
    pack_dump(workdir.dump, pack, b"".join(pages))
    faults = BadInput("skip")
    documents = text_of(workdir.dump, 1, title="line", faults=faults)
    assert documents == [["題1", GOOD], ["題3", GOOD]]
    assert faults.counts == {count: 1}
    start = pieces_of(workdir.dump, 1)[0]["start"]
    assert f"{workdir.dump}, stream at byte {start}, page '題2'" in faults.places[count][0]
    assert "corpus.on_bad_input=skip" in refusal(workdir.dump)


def test_a_page_that_wikiextractor_cannot_do_is_passed_over_with_its_place(
    workdir: Workdir, pack: ModuleType
) -> None:
    texts = [GOOD, "{{a" * 5000 + "}}" * 5000, GOOD]
    pages = [pack.page(number, f"題{number}", 0, None, text) for number, text in enumerate(texts)]
    pack_dump(workdir.dump, pack, "".join(pages))
    faults = BadInput("skip")
    documents = text_of(workdir.dump, 1, "article", title="line", faults=faults)
    assert [name for name, _ in documents] == ["題0", "題2"]
    assert faults.counts == {"page_failed": 1}
    start = pieces_of(workdir.dump, 1)[0]["start"]
    place = (
        f"{workdir.dump}, stream at byte {start}, page '題1': wikiextractor failed: RecursionError"
    )
    assert place in faults.places["page_failed"][0]


def test_a_page_that_its_stream_cuts_is_told(workdir: Workdir, pack: ModuleType) -> None:
    page = pack.page(1, "題", 0, None, GOOD)
    pack_dump(workdir.dump, pack, page + page[:-20], page)
    faults = BadInput("skip")
    assert text_of(workdir.dump, 1, faults=faults) == [[GOOD], [GOOD]]
    assert faults.counts == {"page_malformed": 1}


def test_a_page_of_another_namespace_is_no_bad_input_however_large(
    workdir: Workdir, pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wikipedia, "PAGE", 8000)
    pack_dump(workdir.dump, pack, pack.page(1, "Wikipedia:記録", 4, None, "あ" * 9000))
    assert text_of(workdir.dump, 1) == []


def test_strange_text_passes(workdir: Workdir, pack: ModuleType) -> None:
    texts = ["か" + "\u3099" * 1_000_000, "日" * 400_000, GOOD]
    pack_dump(
        workdir.dump,
        pack,
        "".join(pack.page(i, "題", 0, None, text) for i, text in enumerate(texts)),
    )
    assert text_of(workdir.dump, 1) == [[text] for text in texts]


@pytest.mark.parametrize("unit_bytes", [1, 10**9])
def test_a_damaged_stream_is_passed_over_whatever_the_cut(
    unit_bytes: int, workdir: Workdir, streams: list[bytes]
) -> None:
    raw = bytearray(b"".join([streams[0], streams[1], streams[1], streams[2], streams[3]]))
    start = len(streams[0]) + len(streams[1])
    raw[start + len(streams[1]) // 2] ^= 0xFF
    workdir.dump.write_bytes(bytes(raw))
    faults = BadInput("skip")
    titles = [
        document[0] for document in text_of(workdir.dump, unit_bytes, title="line", faults=faults)
    ]
    assert titles == ["霧浜県", "灯野川", "駅伝競走"]
    assert faults.counts == {"stream_damaged": 1}
    assert (
        f"{workdir.dump}: damaged bz2 stream at byte {start} " in faults.places["stream_damaged"][0]
    )


def test_a_file_that_was_cut_since_then_is_told(workdir: Workdir) -> None:
    piece = pieces_of(workdir.dump, 10**9)[0]
    workdir.dump.write_bytes(workdir.dump.read_bytes()[: piece["start"] + 50])
    faults = BadInput("skip")
    assert list(wikipedia.documents(piece, faults, "default")) == []
    assert (
        f"the bz2 stream at byte {piece['start']} is truncated"
        in faults.places["stream_damaged"][0]
    )


def test_what_is_no_page_is_told(workdir: Workdir, pack: ModuleType) -> None:
    pack_dump(workdir.dump, pack, "<!DOCTYPE x>" + pack.page(1, "題", 0, None, GOOD), "\0" * 10_000)
    faults = BadInput("skip")
    assert text_of(workdir.dump, 1, faults=faults) == [[GOOD]]
    assert faults.counts == {"page_malformed": 2}


@pytest.mark.parametrize("mode", ["default", "article"])
def test_entities_of_a_document_type_are_neither_expanded_nor_fetched(
    mode: str, workdir: Workdir, pack: ModuleType
) -> None:
    secret = workdir.folder / "secret.txt"
    secret.write_text("秘密である。", encoding="utf-8")
    bombs = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    entities = f'<!ENTITY e0 "笑">{bombs}<!ENTITY file SYSTEM "{secret.as_uri()}">'
    page = pack.page(1, "題", 0, None, GOOD).replace(GOOD, "&e9;と&file;である。")
    header = f"<!DOCTYPE mediawiki [{entities}]>\n{pack.HEADER}"
    pack_dump(workdir.dump, pack, page, header=header)
    escaped = "&amp;" if mode == "article" else "&"
    assert text_of(workdir.dump, 1, mode) == [[f"{escaped}e9;と{escaped}file;である。"]]


def test_a_header_without_namespaces_is_refused(workdir: Workdir, pack: ModuleType) -> None:
    pack_dump(workdir.dump, pack, pack.page(1, "題", 0, None, GOOD), header="<mediawiki>\n")
    assert "lists no namespaces" in refusal(workdir.dump)


def test_an_empty_range_has_no_documents(workdir: Workdir) -> None:
    piece = pieces_of(workdir.dump, 1)[0]
    empty = piece | {"end": piece["start"]}
    assert list(wikipedia.documents(empty, BadInput("stop"), "default")) == []


def test_memory_does_not_depend_on_the_range(
    workdir: Workdir, pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of 16 MB, then streams of a megabyte, under bounds of 2 MB; and the half of it."""
    monkeypatch.setattr(multistream, "HELD", 2 << 20)
    monkeypatch.setattr(wikipedia, "PAGE", 2 << 20)
    talk = pack.page(2, "Wikipedia:井戸端", 4, None, "あ" * 300_000)
    page = pack.page(1, "題", 0, None, GOOD)
    bomb = page.replace(GOOD, "0" * (16 << 20)) + page
    header, one, last, huge = (
        bz2.compress(text.encode()) for text in (pack.HEADER, talk + page, "</mediawiki>", bomb)
    )
    peaks = []
    for number in (4, 12):
        workdir.dump.write_bytes(b"".join([header, huge, one * number, last]))
        tracemalloc.start()
        try:
            faults = BadInput("skip")
            assert len(text_of(workdir.dump, 10**9, faults=faults)) == number + 1
            assert faults.counts == {"page_too_large": 1}
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 12 << 20
