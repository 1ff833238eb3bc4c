"""Raw files as people have them, through all steps to the sentences of a shard: nothing fused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kit.config.recipe import Corpus
from kit.corpus import documents, segment
from kit.corpus.bad_input import BadInput
from kit.corpus.raw import pieces
from kit.corpus.steps import Steps, segmented
from kit.data import shards

if TYPE_CHECKING:
    from pathlib import Path


MECAB = segment.open("mecab", None, 1)


def sentences(source: Path, kind: str = "plaintext", mode: str = "default") -> list[list[str]]:
    """The segmented sentences of each document."""
    corpus = Corpus.model_validate(
        {"sources": {"a": {"kind": kind, "location": "a"}}, "segmenter": "mecab", "mode": mode}
    )
    (piece,) = pieces.cut(kind, source, source.parent, 10**6, 0)
    piece |= {"kind": kind, "text_key": "text"}
    raw = documents.read(piece, BadInput("stop"), corpus.mode)
    return [text.split("\n")[:-1] for _, text in segmented(raw, Steps(corpus), MECAB)]


def texts(found: list[list[str]]) -> list[str]:
    """The text of each document, a line feed at the end of each line."""
    return [shards.plain_text(document) for document in found]


def test_a_file_of_carriage_returns_has_its_documents_and_lines(tmp_path: Path) -> None:
    lines = "駅伝は日本で始まった。\r二行目です\r\rマラソンは長い。\r\r山の駅伝は高い。\r"
    (tmp_path / "a").write_bytes(lines.encode())
    assert texts(sentences(tmp_path / "a")) == [
        "駅伝は日本で始まった。\n二行目です\n",
        "マラソンは長い。\n",
        "山の駅伝は高い。\n",
    ]
    in_article = sentences(tmp_path / "a", mode="article")
    assert [len(document) for document in in_article] == [2, 1, 1]


def test_breaks_within_a_json_string_are_ends_of_lines(tmp_path: Path) -> None:
    rows = [
        "前半\u2028後半です。",
        "前半\x85後半です。",
        "前半\v後半。\f次です。",
        "前半\r後半です。",
    ]
    lines = [json.dumps({"text": row}, ensure_ascii=number > 1) for number, row in enumerate(rows)]
    (tmp_path / "a").write_text("\n".join(lines), encoding="utf-8")
    halves = "前半\n後半です。\n"
    assert texts(sentences(tmp_path / "a", "jsonl")) == [
        halves, halves, "前半\n後半。\n次です。\n", halves,
    ]  # fmt: skip


def test_decomposed_kana_are_segmented_as_composed_ones(tmp_path: Path) -> None:
    decomposed = "か\u3099んは\u3099れは\u3099駅伝フ\u3099ームて\u3099ハ\u309aンか\u3099もらえる。"
    composed = "がんばれば駅伝ブームでパンがもらえる。"
    (tmp_path / "a").write_text(f"{decomposed}\n\n{composed}\n", encoding="utf-8")
    first, second = sentences(tmp_path / "a")
    assert first == second == ["がんばれば 駅伝 ブーム で パン が もらえる 。 ␤"]


def test_a_quotation_with_a_question_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("“何？”と聞いた。次です。\n", encoding="utf-8")
    (found,) = sentences(tmp_path / "a")
    assert [shards.plain_text([sentence]) for sentence in found] == [
        "“何?”と聞いた。",
        "次です。\n",
    ]


def test_signs_keep_their_meaning(tmp_path: Path) -> None:
    lines = [
        "気温は－５℃、電話は０９０－１２３４－５６７８、郵便は〒１００－０００１。",
        "値段は¥1000と‘引用’である。彼は——そう言った。",
        "甲太郎　乙次郎",
    ]
    (tmp_path / "a").write_text("\n".join(lines), encoding="utf-8")
    assert texts(sentences(tmp_path / "a")) == [
        "気温は-5℃、電話は090-1234-5678、郵便は〒100-0001。\n"
        "値段は¥1000と‘引用’である。彼は——そう言った。\n"
        "甲太郎 乙次郎\n"
    ]
