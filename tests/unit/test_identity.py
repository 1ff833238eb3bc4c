"""URL and id of a document: read with it if asked for, and without effect on what is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
import pytest

from kit.corpus import identity, jsonl, parquet, wikipedia
from kit.corpus.bad_input import BadInput
from kit.corpus.dump.extractor import Page
from kit.corpus.identity import Identity, Keys
from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS: list[dict[str, Any]] = [
    {"text": "一\n二", "url": " https://a.example/1 ", "id": 7},
    {"text": "三", "url": None, "id": None},
    {"text": "", "url": "https://a.example/empty", "id": 8},
    {"text": "四", "url": "", "id": 9},
]
KEYS = Keys("url", "id")
FOUND = [Identity("https://a.example/1", "7"), Identity(), Identity(None, "9")]


def of_jsonl(folder: Path, keys: Keys | None) -> Iterator[list[str]]:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return jsonl.documents(piece(path), BadInput("stop"), keys=keys)


def of_parquet(folder: Path, keys: Keys | None) -> Iterator[list[str]]:
    path = folder / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)
    return parquet.documents(piece(path), BadInput("stop"), keys=keys)


def piece(path: Path) -> Any:
    status = path.stat()
    return {
        "path": str(path), "start": 0, "end": status.st_size, "size": status.st_size,
        "mtime_ns": status.st_mtime_ns, "text_key": "text",
    }  # fmt: skip


@pytest.mark.parametrize("read", [of_jsonl, of_parquet])
def test_a_document_has_the_url_and_id_of_its_record(
    tmp_path: Path, read: Callable[[Path, Keys | None], Iterator[list[str]]]
) -> None:
    found = list(read(tmp_path, KEYS))
    assert found == list(read(tmp_path, None)) == [["一", "二"], ["三"], ["四"]]
    assert [identity.of(lines) for lines in found] == FOUND
    assert identity.of(next(iter(read(tmp_path, Keys(None, "id"))))) == (None, "7")
    assert {identity.of(lines) for lines in read(tmp_path, None)} == {Identity()}


@pytest.mark.parametrize("value", [True, 1.5, ["a"], {"a": 1}, " ", None])
def test_what_is_neither_text_nor_a_number_is_no_identity(value: object) -> None:
    assert KEYS.identity({"url": value, "id": value}) == Identity()


def test_an_article_has_the_address_that_its_wiki_gives_it() -> None:
    page = Page("C++ &amp; 何? 100%/1 (駅)", b"", "", id="12")
    address = "https://ja.wikipedia.org/wiki/C%2B%2B_%26_%E4%BD%95%3F_100%25/1_(%E9%A7%85)"
    base = "https://ja.wikipedia.org/wiki/"
    assert wikipedia._identity(page, base) == (address, "12")
    assert wikipedia._identity(page, None) == (None, "12")


def test_half_a_surrogate_pair_in_a_url_is_replaced() -> None:
    assert KEYS.identity({"url": "http://a/\ud800"}).url == "http://a/\ufffd"


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'uri' \(columns: .*; set url_key or id_key"):
        list(of_parquet(tmp_path, Keys("uri")))
