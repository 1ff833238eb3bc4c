"""Shards: lossless from normalised text to segmented words and back."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config.recipe import Corpus, Source
from kit.corpus import segment
from kit.corpus.normalise.normaliser import Normaliser
from kit.corpus.preprocess import is_held_out
from kit.corpus.segment import resolve
from kit.corpus.steps import Steps, _Text, segmented
from kit.data import shards
from kit.errors import InputError
from kit.store.files import text_hash, zstd_reader, zstd_writer
from tests.benchmarks.peers.script import ssplit

SOURCE = Source(kind="plaintext", location="a.txt")
DEFAULT = Corpus(sources={"a": SOURCE}, unit_mb=1, tasks=1, held_out=0.1, segmenter="mecab")
ARTICLE = DEFAULT.model_copy(update={"mode": "article"})
MECAB = segment.open("mecab", None, 1)
JAPANESE = st.sampled_from(
    "日本語東京都駅伝襷山川あいうえおかきくけこはがのをにカタカナー。、？！…「」（）０１２ＡＢ"
)
LATIN = st.sampled_from("abcXYZ019 .,-'/~é")
ODD = st.one_of(
    st.characters(codec="utf-8"),
    st.sampled_from("▁␤\u2063\u3000\t\r\v\x00\x1c\x85\u2028ﾊﾞ〜～𠮷🗾"),
)
LINES = st.lists(
    st.text(st.one_of(JAPANESE, JAPANESE, LATIN, st.just(" "), ODD), max_size=30), max_size=5
).map(lambda lines: [line.replace("\n", " ") for line in lines])

DOCUMENTS = [
    ["霧浜県は海に面した県である。県庁は霧浜市にある。", "", "人口は約 100 万人（2020年）。"],
    ["Linux kernel 6.1 を使う。", "「はい。いいえ。」と言った！？本当…。"],
    ["印▁と␤のある行", "ｶﾞｷﾞｸﾞ　ゲゴ〜〜 café"],
    ["1995〜2001年の café au lait は http://a.example/~b にあると言っでっ。"],
    ["甲太郎　乙次郎　－５℃", "Yes! No. ――“何？”とか\u3099 ¥5"],
]


def taken(lines: list[str], corpus: Corpus = DEFAULT) -> tuple[list[str], Steps]:
    """A document's segmented sentences, and the steps that count."""
    steps = Steps(corpus)
    ((_, text),) = segmented([lines], steps, MECAB)
    return text.split("\n")[:-1], steps


def normalised(lines: list[str], corpus: Corpus) -> list[str]:
    return Normaliser(corpus.mode, corpus.normalise).lines(lines)[0]


@settings(max_examples=150, deadline=None)
@given(LINES)
def test_the_words_of_a_document_give_back_its_normalised_text(lines: list[str]) -> None:
    found, steps = taken(lines)
    texts = [text for text in normalised(lines, DEFAULT) if text]
    assert shards.plain_text(found) == "".join(f"{text}\n" for text in texts)
    counted = steps.counts.get("normalised", {"characters": 0, "lines": 0})
    assert counted["characters"] == sum(map(len, texts))
    assert counted["lines"] == len(texts)
    assert len(texts) + steps.lines_dropped["empty"] == len(lines)


@settings(max_examples=100, deadline=None)
@given(LINES)
def test_in_article_mode_the_words_give_back_the_sentences_of_ssplit(lines: list[str]) -> None:
    found, _ = taken(lines, ARTICLE)
    sentences = [part for line in normalised(lines, ARTICLE) for part in ssplit(line)]
    assert [shards.plain_text([sentence]) for sentence in found] == sentences


@settings(max_examples=100, deadline=None)
@given(LINES, st.sampled_from([DEFAULT, ARTICLE]))
def test_a_segmented_sentence_is_one_line_that_is_not_empty(
    lines: list[str], corpus: Corpus
) -> None:
    for sentence in taken(lines, corpus)[0]:
        assert sentence
        assert "\n" not in sentence
        assert sentence == sentence.strip(" ")
        assert "  " not in sentence


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, max_size=4))
def test_a_shard_gives_back_its_documents(documents: list[list[str]]) -> None:
    import tempfile

    found = [document for document, _ in map(taken, documents) if document]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt.zst"
        with shards.writer(path) as add:
            for document in found:
                add(shards.document(document))
        assert list(shards.read(path)) == found


def test_marks_in_the_text_are_replaced_and_counted() -> None:
    found, steps = taken(["一▁二▁三", "四␤五", "六"])
    assert steps.marks_replaced == 3
    assert shards.plain_text(found) == "一_二_三\n四 五\n六\n"


def test_a_line_of_marks_alone_leaves_no_empty_line() -> None:
    found, steps = taken(["␤", "␤␤", ""])
    assert found == []
    assert steps.lines_dropped["empty"] == 3
    assert steps.counts["read"]["documents"] == 1


def test_a_space_of_the_text_stands_before_the_word_that_follows_it() -> None:
    def put(*lines: str, article: bool = False) -> str:
        text = _Text.from_documents([lines], article)
        (made,) = text.segmented([chunk and f"<{chunk}>" for chunk in text.chunks])
        return made

    assert put("東京都 Linux") == "<東京都> ▁<Linux> ␤\n"
    assert put("a! b", "c") == "<a!>\n▁<b> ␤\n<c> ␤\n"
    assert put(" a", "a  b") == "▁<a> ␤\n<a> ▁ ▁<b> ␤\n"
    assert put("a  b ", " ") == "<a> ▁ ▁<b> ▁ ␤\n▁ ␤\n"
    assert put("長い" * 3000 + " a") == f"<{'長い' * 3000}> ▁<a> ␤\n"
    assert put("a! b c! ", " d", article=True) == "<a!>\n<b> ▁<c!>\n<d>\n"


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [[f"文書{number}。 二文目 です。", "次の行"] for number in range(50)]
    whole = [text for _, text in segmented(documents, Steps(DEFAULT), MECAB)]
    for size in (1, 30, 200):
        monkeypatch.setattr("kit.corpus.steps._BATCH", size)
        assert [text for _, text in segmented(documents, Steps(DEFAULT), MECAB)] == whole


def test_an_unclosed_last_document_is_an_error(tmp_path: Path) -> None:
    with zstd_writer(tmp_path / "a.txt.zst") as out:
        out.write("閉じた 文書\n\n閉じない 文書\n")
    with pytest.raises(InputError, match=r"a\.txt\.zst: its last document is incomplete"):
        list(shards.read(tmp_path / "a.txt.zst"))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 0.99])
def test_a_shard_that_is_cut_short_is_an_error(tmp_path: Path, share: float) -> None:
    import random

    letters = random.Random(1)
    path = tmp_path / "a.txt.zst"
    with shards.writer(path) as add:
        for _ in range(20_000):  # several blocks of zstd
            add("".join(letters.choices("あいうえお日本語駅伝 ", k=20)) + "\n")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"a\.txt\.zst"):
        list(shards.read(path))


def test_a_damaged_shard_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    with shards.writer(path) as add:
        add("襷 を つなぐ\n" * 1000)
    raw = bytearray(path.read_bytes())
    raw[0] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match=r"a\.txt\.zst"):
        list(shards.read(path))


def test_these_documents_give_these_bytes(tmp_path: Path) -> None:
    if resolve("mecab")[1] != "fugashi 1.5.2, jumandic 1.0.0":
        pytest.skip("the golden bytes are those of fugashi 1.5.2 and jumandic 1.0.0")
    with shards.writer(tmp_path / "a.txt.zst") as add:
        for lines in DOCUMENTS:
            for corpus in (DEFAULT, ARTICLE):
                add(shards.document(taken(lines, corpus)[0]))
    with zstd_reader(tmp_path / "a.txt.zst") as stream:
        text = stream.read()
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "171a0b5bb0f5d1ecc7524ce8a29a61eac81d802414763c260d90f74f1a16dcc0"
    ), "other bytes from the same documents: raise VERSION in kit/data/shards.py, then this hash"


def keys(texts: list[str]) -> list[int]:
    return [text_hash(text) for text in texts]


def test_a_share_of_the_documents_is_held_out() -> None:
    held = [is_held_out(key, 0.1) for key in keys([f"文書 {number}" for number in range(2_000)])]
    assert 140 < sum(held) < 260  # 200, give or take four standard deviations


def test_a_larger_share_holds_out_the_same_documents_and_more() -> None:
    found = keys([f"文書 {number}" for number in range(1_000)])
    few = {key for key in found if is_held_out(key, 0.05)}
    many = {key for key in found if is_held_out(key, 0.2)}
    assert few < many
    assert not any(is_held_out(key, 0.0) for key in found)


def test_the_same_text_has_the_same_key_wherever_it_stands() -> None:
    lines = ["文書 1", "二行目"]
    pairs = segmented([["前"], lines, lines, [*lines, "三行目"]], Steps(DEFAULT), MECAB)
    first, second, third = [document.key for document, _ in pairs][1:]
    assert first == second != third


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.text("駅a \r\x85\u2028", min_size=1, max_size=5), max_size=4), max_size=6),
    st.integers(1, 30),
    st.booleans(),
)
def test_the_texts_of_a_shard_are_the_documents_that_were_added(
    documents: list[list[str]], block: int, closed: bool
) -> None:
    texts = [shards.document(sentences) for sentences in documents]
    whole = "".join(f"{text}\n" for text in texts) + ("" if closed else "一文 。\n")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_BLOCK", block)
        path = Path(name) / "a.txt.zst"
        path.write_bytes(zstandard.compress(whole.encode()))
        found = shards.texts(path)
        assert [next(found) for _ in documents] == texts
        if closed:
            assert next(found, None) is None
            assert list(shards.read(path)) == documents
        else:
            with pytest.raises(InputError, match=r"a\.txt\.zst: its last document is incomplete"):
                next(found)


def test_a_batch_ends_with_the_document_that_fills_it() -> None:
    documents = [["あ" * 4], ["い" * 3, "う" * 2], ["え" * 9], ["お"], []]
    assert list(shards.batches(documents, 5)) == [documents[:2], documents[2:3], documents[3:]]
    assert list(shards.batches(documents, 10)) == [documents[:3], documents[3:]]
    assert list(shards.batches(documents[:2], 9)) == [documents[:2]]  # filled to the character
    assert list(shards.batches([], 5)) == []
