"""JSON lines: an object a line, a document an object."""

from __future__ import annotations

import json
import lzma
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.corpus import jsonl
from kit.corpus.bad_input import BadInput
from kit.corpus.raw import pieces
from kit.corpus.raw.lines import LINE_BYTES
from kit.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

Piece = dict[str, Any]


def cut(source: Path, unit_bytes: int = 10**8, text_key: str = "text") -> list[Piece]:
    folder = source.parent / "parts"
    folder.mkdir(exist_ok=True)
    found = pieces.cut("jsonl", source, folder, unit_bytes, 0)
    return [piece | {"text_key": text_key} for piece in found]


def read(found: list[Piece], faults: BadInput | None = None, limit: int = 10**7) -> list[list[str]]:
    faults = faults or BadInput("stop")
    return [text for piece in found for text in jsonl.documents(piece, faults, limit)]


def test_each_object_is_a_document_of_the_lines_of_its_text(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    rows = ["一行目\n\n二行目\r\n", "", "\n", "次の文書"]
    lines = [json.dumps({"id": 7, "text": row}) for row in rows]
    source.write_bytes("\r\n \n".join(lines).encode())
    assert read(cut(source)) == [["一行目", "二行目"], ["次の文書"]]


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("end", ["\v", "\f", "\r", "\r\n", "\x85", "\u2028", "\u2029"])
def test_all_mandatory_breaks_of_unicode_end_a_line_of_the_text(
    tmp_path: Path, end: str, escaped: bool
) -> None:
    row = json.dumps({"text": f"前半{end}後半。{end}{end}次です。"}, ensure_ascii=escaped)
    for name, ends in (("a", "\n"), ("b", "\r"), ("c", "\r\n")):  # of the objects
        (tmp_path / name).write_bytes(f"{row}{ends}{row}{ends}".encode())
        found = [["前半", "後半。", "次です。"]] * 2
        assert read(cut(tmp_path / name)) == read(cut(tmp_path / name, 20)) == found


def test_the_text_stands_under_the_key_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"本文": "あ", "text": 1}\n'.encode())
    assert read(cut(tmp_path / "a.jsonl", text_key="本文")) == [["あ"]]


BAD = {
    "not_utf8": b'{"text": "\x80"}',
    "nul": b'{"text": "a\\u0000b"}',
    "surrogate": b'{"text": "\\ud800"}',
    "not_json": b'{"text": "a"',
    "not_an_object": b'["text"]',
    "no_text": b'{"txt": "a"}',
    "text_is_no_string": b'{"text": ["a"]}',
    "line_too_long": b'{"text": "' + b"a" * 2_000 + b'"}',
}


@pytest.mark.parametrize(("kind", "row"), BAD.items(), ids=BAD)
def test_a_bad_object_is_passed_over_and_counted(tmp_path: Path, kind: str, row: bytes) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b'{"text": "one"}\n' + row + b'\n{"text": "two"}\n' + row)
    faults = BadInput("skip")
    assert read(cut(source), faults, limit=1_000) == [["one"], ["two"]]
    assert faults.counts == {kind: 2}
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: .*; or skip such input") as caught:
        read(cut(source), limit=1_000)
    assert "\n" not in str(caught.value)


def test_a_text_of_too_many_lines_is_passed_over(tmp_path: Path) -> None:
    row = '{"text": "' + "a\\n" * 2**20 + '"}\n'
    (tmp_path / "a.jsonl").write_text(row + '{"text": "two"}\n', encoding="utf-8")
    faults = BadInput("skip")
    assert read(cut(tmp_path / "a.jsonl"), faults) == [["two"]]
    assert faults.counts == {"document_too_long": 1}


@pytest.mark.parametrize("row", ["[" * 10**6, '{"text": ' + "9" * 10_000 + "}", "", "\0"])
def test_what_python_reads_with_pains_is_no_json(tmp_path: Path, row: str) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(f'{row}\n{{"text": "two"}}\n', encoding="utf-8")
    faults = BadInput("skip")
    assert read(cut(source), faults) == [["two"]]
    assert sum(faults.counts.values()) == (row != "")


def test_a_line_of_the_text_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    text = "一\n" + "あ" * (LINE_BYTES // 3 + 1) + "\n二"
    source.write_text(json.dumps({"text": text}), encoding="utf-8")
    faults = BadInput("skip")
    assert read(cut(source), faults) == [["一", "二"]]
    assert faults.counts == {"line_too_long": 1}


ROWS = st.lists(
    st.sampled_from(
        [
            b"",
            b" ",
            b'{"text": "a\\n\\nb"}',
            '{"text": "あ"}'.encode(),
            b"{}",
            b"\xff",
            b"{}\r",
            b"\r{}",
        ]
    ),
    max_size=8,
).map(b"\n".join)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=ROWS, cuts=st.sets(st.integers(1, 80)), unit_bytes=st.integers(1, 50))
def test_wherever_it_is_cut_each_object_is_read_once(
    tmp_path: Path, text: bytes, cuts: set[int], unit_bytes: int
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(text)
    faults = BadInput("skip")
    whole = read(cut(source), faults)
    ends = [*sorted(cut for cut in cuts if cut < len(text)), len(text)]
    facts = cut(source)[0]
    by_hand = [
        facts | {"start": start, "end": end}
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    (tmp_path / "a.xz").write_bytes(lzma.compress(text))
    for found in (by_hand, cut(source, unit_bytes), cut(tmp_path / "a.xz", unit_bytes)):
        again = BadInput("skip")
        assert read(found, again) == whole
        assert again.counts == faults.counts


def test_at_every_byte_it_may_be_cut(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    text = b'{"text": "a"}\n\n{"text": "b"}\nx\n{"text": "c"}'
    source.write_bytes(text)
    facts = cut(source)[0]
    for middle in range(1, len(text)):
        faults = BadInput("skip")
        found = [facts | {"end": middle}, facts | {"start": middle}]
        assert read(found, faults) == [["a"], ["b"], ["c"]]
        assert faults.counts == {"not_json": 1}
