"""The assembled tokenizers: the exact text comes back, words are kept apart, AutoTokenizer agrees."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kit.config.recipe import Corpus, Source
from kit.config.tokenizer import TokenizerSpec
from kit.corpus import segment
from kit.corpus.steps import segment_document
from kit.data import tokenizer_file
from kit.data.shards import BOUNDARY, LINE_END, MARKS, SPACE, plain_text
from kit.tokenizer import counts, huggingface, unigram

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CORPUS = Corpus(
    sources={"a": Source(kind="plaintext", location="a.txt")}, unit_mb=1, tasks=1, held_out=0.1
)
WORDS = segment.open("mecab", None, 1)
# Frequent where the tokenizers are trained: an entry that spans a sign would be learnt, if any were.
LOOKALIKES = ["</s>", "<unk>", "<s>", "<0x41>", "<0xE6>", "<<s>>", "x</s>y"]

FRAGMENTS = [
    *LOOKALIKES,
    *("駅伝を走る。", "今日は", "日本", "です", "ー" * 20, "ABC", "naïve café", "1,024", "ｶﾞ", "が"),
    *(
        " ",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\t",
        "\r",
        "\r\n",
        "\u3000",
        "\xa0",
        "\u200b",
        "\u2028",
        "\x85",
    ),
    *(
        "👨‍👩‍👧",
        "🗾",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "㍻",
        "𠮷",
        "葛󠄀",
        "ภาษา",
        "\x00",
        "\x1f",
        "\ufffd",
        "\ufeff",
        "\U0010ffff",
        "▅",
    ),
    *("<", ">", "</", "s>", "Ġ", "##", "[UNK]"),
]
CHARACTERS = st.characters(codec="utf-8", exclude_characters="".join(MARKS))
TEXTS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(CHARACTERS, max_size=6)), max_size=12
).map("".join)


class Made(NamedTuple):
    """A tokenizer as the kit loads it from its folder, and as AutoTokenizer does."""

    folder: Path
    ours: Tokenizer
    auto: Any


def sentences_of(lines: Sequence[str]) -> list[str]:
    return segment_document(lines, CORPUS, WORDS)


def bpe(texts: Sequence[str], spaces: str) -> Tokenizer:
    """A BPE tokenizer with the vocabulary and merges of HF's trainer."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = huggingface.pre_tokenizer(spaces)
    trainer = trainers.BpeTrainer(vocab_size=900, limit_alphabet=300, show_progress=False)
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    entries = [*huggingface.first_entries(spaces), *sorted(model["vocab"], key=model["vocab"].get)]
    return huggingface.from_merges(entries, [tuple(pair) for pair in model["merges"]], spaces)


def one_unigram(texts: Sequence[str], spaces: str) -> Tokenizer:
    cut = huggingface.pre_tokenizer(spaces).pre_tokenize_str
    words = Counter(word for text in texts for word, _ in cut(text))
    size = 900 + len(huggingface.first_entries(spaces))
    vocabulary = TokenizerSpec.model_validate(
        {"algorithm": "unigram", "vocab_size": size, "limit_alphabet": 300, "spaces": spaces}
    )
    return unigram.train(counts.chunks(words), vocabulary)


@pytest.fixture(scope="module")
def sentences(root: Path) -> list[str]:
    """Segmented sentences of the demo's web text, and words that look like special tokens."""
    text = (root / "configs/demo/web.txt").read_text(encoding="utf-8")
    found = sentences_of([*text[:30_000].split("\n"), "naïve café  ABC 1,024"])
    return [*found, *(f"印 {word} の {SPACE}{word}" for word in LOOKALIKES for _ in range(50))]


def made(kind: str, spaces: str, sentences: list[str], folder: Path) -> Made:
    from transformers import AutoTokenizer

    texts = [huggingface.surface(sentence, spaces) for sentence in sentences]
    huggingface.save((bpe if kind == "bpe" else one_unigram)(texts, spaces), folder)
    return Made(folder, tokenizer_file.load(folder), AutoTokenizer.from_pretrained(folder))


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def lossless(
    request: pytest.FixtureRequest, sentences: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    return made(request.param, "lossless", sentences, tmp_path_factory.mktemp("lossless"))


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def article(
    request: pytest.FixtureRequest, sentences: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    return made(request.param, "article", sentences, tmp_path_factory.mktemp("article"))


def cut(text: str, places: Sequence[float]) -> list[str]:
    """The sentences of a shard: a text cut into words anywhere, as a segmenter might."""
    marked = text.replace(" ", f" {SPACE}").replace("\n", f" {LINE_END}\n")
    for place in places:
        at = int(place * len(marked))
        if marked[at - 1 : at] != SPACE:  # it stands before its word, or is one
            marked = f"{marked[:at]} {marked[at:]}"
    rows = [" ".join(filter(None, row.split(" "))) for row in marked.split("\n")]
    return [row for row in rows if row]


def check(tokenizer: Made, given: str, text: str) -> None:
    """That `given` is encoded alike by both, without a special token, and comes back as `text`."""
    ids = tokenizer.ours.encode(given, add_special_tokens=False).ids
    assert tokenizer.ours.decode(ids, skip_special_tokens=False) == text
    assert not {0, 1, 2} & set(ids)
    assert tokenizer.auto(given)["input_ids"] == ids
    assert tokenizer.auto.encode(given) == ids
    assert tokenizer.auto.decode(ids) == text
    assert tokenizer.auto.decode(ids, skip_special_tokens=True) == text


@settings(max_examples=100, deadline=None)
@given(TEXTS)
@example("".join(FRAGMENTS))
@example(" ".join(FRAGMENTS))
@example("")
def test_raw_text_comes_back(lossless: Made, text: str) -> None:
    check(lossless, text, text)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.lists(st.floats(0, 1), max_size=12))
def test_text_cut_into_words_comes_back(lossless: Made, text: str, places: list[float]) -> None:
    shard = cut(text, places)
    assert plain_text(shard) == text
    check(lossless, huggingface.surface("".join(f"{row}\n" for row in shard), "lossless"), text)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, max_size=4))
@example(FRAGMENTS)
def test_segmented_text_comes_back(lossless: Made, texts: list[str]) -> None:
    lines = [line for text in texts for line in text.split("\n")]
    shard = sentences_of(lines) if any(lines) else []
    document = "".join(f"{sentence}\n" for sentence in shard)
    check(lossless, huggingface.surface(document, "lossless"), plain_text(shard))


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.lists(st.floats(0, 1), max_size=12))
def test_no_token_crosses_a_word(
    lossless: Made, article: Made, text: str, places: list[float]
) -> None:
    for tokenizer, spaces in ((lossless, "lossless"), (article, "article")):
        shard = cut(text, places)
        document = "".join(f"{row}\n" for row in shard)
        words = [word for row in shard for word in row.split(" ")]
        by_word = tokenizer.ours.encode_batch([huggingface.surface(word, spaces) for word in words])
        assert tokenizer.ours.encode(huggingface.surface(document, spaces)).ids == [
            number for encoding in by_word for number in encoding.ids
        ]


def test_a_boundary_in_text_keeps_a_frequent_word_apart(lossless: Made) -> None:
    def tokens(text: str) -> list[str]:
        return lossless.ours.encode(text).tokens

    assert tokens("です") == ["です"]
    assert tokens(f"で{BOUNDARY}す") == ["で", "す"]


def test_a_space_begins_a_piece_and_a_line_feed_is_one(lossless: Made) -> None:
    cut = [
        word
        for word, _ in huggingface.pre_tokenizer("lossless").pre_tokenize_str(
            "a▁b▁▁c␤<d<<e\u2063▁f"
        )
    ]
    assert cut == ["a", "▁b", "▁", "▁c", "␤", "<", "d", "<", "<", "e", "▁f"]
    assert lossless.ours.decode(lossless.ours.encode(" a\n b").ids) == " a\n b"


def test_no_entry_looks_like_a_special_token_or_holds_a_boundary(
    lossless: Made, article: Made
) -> None:
    for tokenizer, spaces in ((lossless, "lossless"), (article, "article")):
        first = huggingface.first_entries(spaces)
        entries = {tokenizer.ours.id_to_token(number) for number in range(len(tokenizer.auto))}
        learnt = [entry for entry in entries - set(first) if entry is not None]
        assert len(learnt) == len(entries) - len(first)
        with_sign = {entry for entry in learnt if "<" in entry}
        if spaces == "lossless":
            assert with_sign == {"<"}
        else:  # among signs only
            assert not [entry for entry in with_sign if any(map(str.isalnum, entry))]
        assert not [entry for entry in learnt if BOUNDARY in entry]


def test_autotokenizer_knows_what_the_special_tokens_are_and_how_many_entries_there_are(
    lossless: Made, article: Made
) -> None:
    for tokenizer, first in ((lossless, 259), (article, 3)):
        auto, ours = tokenizer.auto, tokenizer.ours
        assert (auto.unk_token_id, auto.bos_token_id, auto.eos_token_id) == (0, 1, 2)
        assert (auto.unk_token, auto.bos_token, auto.eos_token) == huggingface.SPECIAL
        assert auto.pad_token_id == 2
        assert [*auto("駅伝")] == auto.model_input_names == ["input_ids", "attention_mask"]
        assert len(auto) == ours.get_vocab_size() == max(ours.get_vocab().values()) + 1
        assert auto.get_vocab() == ours.get_vocab()
        assert auto.convert_ids_to_tokens([0, 1, 2, first - 1]) == [
            *huggingface.SPECIAL,
            huggingface.first_entries("lossless" if first == 259 else "article")[-1],
        ]


def test_a_tokenizer_saved_again_is_the_same(lossless: Made, article: Made, tmp_path: Path) -> None:
    for tokenizer in (lossless, article):
        huggingface.save(tokenizer_file.load(tokenizer.folder), tmp_path)
        for name in (huggingface.FILE, huggingface.SETTINGS):
            assert (tmp_path / name).read_bytes() == (tokenizer.folder / name).read_bytes()


def test_what_autotokenizer_saves_is_as_exact(lossless: Made, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    lossless.auto.save_pretrained(tmp_path)
    again = lossless._replace(
        ours=tokenizer_file.load(tmp_path), auto=AutoTokenizer.from_pretrained(tmp_path)
    )
    text = "\n ".join(FRAGMENTS)
    check(again, text, text)
    assert again.auto(text)["input_ids"] == lossless.auto(text)["input_ids"]


def test_many_texts_at_once_are_encoded_as_one_by_one(lossless: Made) -> None:
    one_by_one = [lossless.ours.encode(text).ids for text in FRAGMENTS]
    assert lossless.auto(FRAGMENTS)["input_ids"] == one_by_one
    assert lossless.auto.batch_decode(one_by_one) == FRAGMENTS


# Of the article mode, in which spaces are lost.


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.lists(st.floats(0, 1), max_size=12))
def test_in_article_mode_text_is_cut_as_by_whitespace_and_the_rest_is_unknown(
    article: Made, text: str, places: list[float]
) -> None:
    given = huggingface.surface("".join(f"{row}\n" for row in cut(text, places)), "article")
    assert not {SPACE, LINE_END} & set(given)
    encoding = article.ours.encode(given)
    pieces = pre_tokenizers.Whitespace().pre_tokenize_str(given)
    assert [encoding.word_ids.index(number) for number in range(len(pieces))] == [
        place
        for place, number in enumerate(encoding.word_ids)
        if place == 0 or encoding.word_ids[place - 1] != number
    ]
    known = article.ours.get_vocab().keys()
    for number, (piece, _) in enumerate(pieces):
        ids = [
            id_ for id_, word in zip(encoding.ids, encoding.word_ids, strict=True) if word == number
        ]
        assert (0 in ids) == bool(set(piece) - known)
        if 0 not in ids:
            assert "".join(filter(None, map(article.ours.id_to_token, ids))) == piece
    assert not {1, 2} & set(encoding.ids)
    assert article.auto(given)["input_ids"] == encoding.ids


def test_in_article_mode_spaces_vanish(article: Made) -> None:
    given = huggingface.surface(f"今日 は {SPACE}日本 です {LINE_END}", "article")
    ids = article.ours.encode(given).ids
    assert article.ours.decode(ids) == article.auto.decode(ids) == "今日は日本です"
    assert article.ours.encode("今日 \t\u3000は").ids == article.ours.encode("今日 は").ids
