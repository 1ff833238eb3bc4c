"""The table of words: the ids that tokenizers gives, and a bound on what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.config.recipe import Corpus, Source
from kit.corpus import segment
from kit.corpus.steps import segment_document
from kit.data import shards
from kit.tokenizer import huggingface
from kit.tokenizer.word_cache import WordCache
from tests import vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

SHORT, LONG = np.dtype("<u2"), np.dtype("<u4")
CORPUS = Corpus(
    sources={"a": Source(kind="plaintext", location="a.txt")}, unit_mb=1, tasks=1, held_out=0.1
)
STRANGE = [
    "㍻と𠮷野家、絵文字🗾👨‍👩‍👧、ภาษาไทย。é か\u3099 ﷽",
    "café au lait, naïve — “quotes” <s>印</s> <unk> <0x41> <0xE6> <|endoftext|>",
    "  空白 が  二つ 。\u3000\t\r\x00\x1c\x85\u2028\ufeff<<< >>> ",
    "http://a.example/~b?c=d#e 1995〜2001年 ＡＢＣ ﾊﾟ ------------ ーーーーーーーー",
    "",
]
# What a word of a shard may hold: anything but a plain space, a line feed and a mark of the kit.
CHARACTERS = st.one_of(
    st.sampled_from("日本の駅伝、。「」<>/sunk0x41abé🗾𠮷_-'’"),
    st.characters(codec="utf-8", exclude_characters=" \n▁␤\u2063"),
)
WORDS = st.one_of(
    st.tuples(st.sampled_from(["", shards.SPACE]), st.text(CHARACTERS, max_size=6)).map("".join),
    st.sampled_from([shards.SPACE, shards.LINE_END, "</s>", "<unk>", "<0x41>", "▁<s>"]),
).filter(bool)
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), max_size=4)


@pytest.fixture(scope="module")
def documents(root: Path) -> list[str]:
    """The demo's web text and strange lines as documents of a shard."""
    texts = (root / "configs/demo/web.txt").read_text(encoding="utf-8").split("\n\n")
    with segment.open("mecab", None, 1) as words:
        return [
            shards.document(segment_document(lines, CORPUS, words))
            for lines in [*(text.split("\n") for text in texts), STRANGE]
        ]


@pytest.fixture(scope="module")
def tokenizers(documents: list[str]) -> dict[str, tuple[Tokenizer, str]]:
    """Three kinds of a tokenizer, and what a space is to each."""
    sentences = [s for document in documents[:-1] for s in document.split("\n")]
    words = sorted({w for s in sentences[:300] for w in s.split(" ") if w and w[0] != "<"})
    pieces = sorted({*words, *"".join(words)})
    scores = [(entry, -20.0) for entry in huggingface.first_entries("lossless")]
    scores += [(piece, -5.0 - 1 / len(piece)) for piece in pieces]
    return {
        "bpe": (vocabulary.trained(sentences), "lossless"),
        "unigram": (huggingface.from_scores(scores, "lossless"), "lossless"),
        "article": (vocabulary.trained(sentences, "article"), "article"),
    }


def ids(packed: bytes, dtype: np.dtype = SHORT) -> list[int]:
    return np.frombuffer(packed, dtype).tolist()


def theirs(tokenizer: Tokenizer, spaces: str, document: str) -> list[int]:
    """The ids of the library, of the document as a whole."""
    found: list[int] = tokenizer.encode(
        huggingface.surface(document, spaces), add_special_tokens=False
    ).ids
    return found


@pytest.mark.parametrize("kind", ["bpe", "unigram", "article"])
def test_the_ids_are_those_of_the_library_document_by_document(
    kind: str, tokenizers: dict[str, tuple[Tokenizer, str]], documents: list[str]
) -> None:
    tokenizer, spaces = tokenizers[kind]
    table = WordCache(tokenizer, spaces, SHORT)
    for _ in range(2):  # the second time every word is known
        for document in documents:
            assert ids(table.document(document)) == theirs(tokenizer, spaces, document)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(SENTENCES, st.sampled_from(["bpe", "unigram", "article"]), st.integers(0, 5))
def test_the_ids_are_those_of_the_library_on_any_words_and_in_any_room(
    tokenizers: dict[str, tuple[Tokenizer, str]], sentences: list[str], kind: str, room: int
) -> None:
    tokenizer, spaces = tokenizers[kind]
    table = WordCache(tokenizer, spaces, SHORT, room)
    document = shards.document(sentences)
    for text in (document, document, shards.document(sentences[::-1])):
        assert ids(table.document(text)) == theirs(tokenizer, spaces, text)


def test_a_line_end_within_a_word_or_that_is_no_entry_changes_no_id(
    tokenizers: dict[str, tuple[Tokenizer, str]],
) -> None:
    document = f"駅伝 を{shards.LINE_END}走る {shards.LINE_END}\n日本 の {shards.SPACE}駅伝\n"
    entries = [*huggingface.first_entries("lossless"), *"駅伝を走る日本の"]
    without = huggingface.from_merges(entries, [], "lossless")
    for tokenizer in (tokenizers["bpe"][0], tokenizers["unigram"][0], without):
        found = ids(WordCache(tokenizer, "lossless", SHORT).document(document))
        assert found == theirs(tokenizer, "lossless", document)


def test_a_document_without_a_word_has_no_token(
    tokenizers: dict[str, tuple[Tokenizer, str]],
) -> None:
    assert WordCache(*tokenizers["bpe"], SHORT).document("") == b""
    assert WordCache(*tokenizers["article"], SHORT).document(f"{shards.LINE_END}\n") == b""


def kept(table: WordCache, documents: list[str]) -> list[int]:
    """How many words a table keeps after each document."""
    return [table.document(document) and len(table._ids) for document in documents]


def test_a_table_keeps_every_word_while_there_is_room(
    tokenizers: dict[str, tuple[Tokenizer, str]], documents: list[str]
) -> None:
    found = kept(WordCache(*tokenizers["bpe"], SHORT), documents)
    words = {word for document in documents for word in document.replace("\n", " ").split(" ")}
    assert found[-1] == len(words)


def test_a_table_that_is_full_is_begun_anew(
    tokenizers: dict[str, tuple[Tokenizer, str]], documents: list[str]
) -> None:
    found = kept(WordCache(*tokenizers["bpe"], SHORT, capacity=400), documents)
    assert 200 < max(found) <= 400
    assert found.count(1) > 1
    assert set(kept(WordCache(*tokenizers["bpe"], SHORT, capacity=0), documents)) == {1}


def test_a_very_long_word_is_encoded_and_does_not_stay(
    tokenizers: dict[str, tuple[Tokenizer, str]],
) -> None:
    tokenizer, spaces = tokenizers["bpe"]
    table = WordCache(tokenizer, spaces, SHORT)
    word = "駅伝の襷" * 5_000
    document = f"これ は {word} {word} と {word[:40]}\n{word[1:]}\n"
    for _ in range(2):
        assert ids(table.document(document)) == theirs(tokenizer, spaces, document)
        assert sorted(table._ids) == sorted(["", "これ", "は", "と", word[:40]])


def test_above_65535_entries_a_token_takes_four_bytes_and_two_are_refused() -> None:
    first = huggingface.first_entries("lossless")
    characters = [chr(0x20000 + number) for number in range(70_000 - len(first))]
    tokenizer = huggingface.from_merges([*first, *characters], [], "lossless")
    document = f"{characters[0]}{characters[-1]} {characters[65_535]}\n"
    found = WordCache(tokenizer, "lossless", LONG).document(document)
    assert ids(found, LONG) == theirs(tokenizer, "lossless", document)
    assert max(ids(found, LONG)) == 69_999
    with pytest.raises(OverflowError):
        WordCache(tokenizer, "lossless", SHORT).document(document)
