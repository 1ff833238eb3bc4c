"""Unigram from counted words: its entries, that nothing else shows in them, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.config.recipe import Corpus, Source
from kit.config.tokenizer import TokenizerSpec
from kit.corpus import segment
from kit.corpus.steps import segment_document
from kit.data.shards import plain_text
from kit.errors import InputError
from kit.tokenizer import counts, huggingface, unigram, unigram_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

CORPUS = Corpus(
    sources={"a": Source(kind="plaintext", location="a.txt")}, unit_mb=1, tasks=1, held_out=0.1
)
TRAIN = """
import sys
from pathlib import Path
from kit.config.tokenizer import TokenizerSpec
from kit.tokenizer import counts, huggingface, unigram
vocabulary = TokenizerSpec(algorithm="unigram", vocab_size=1200, limit_alphabet=300)
huggingface.save(unigram.train(counts.read(Path(sys.argv[1])), vocabulary), Path(sys.argv[2]))
"""


def vocabulary(**changes: object) -> TokenizerSpec:
    given = {"algorithm": "unigram", "vocab_size": 1900} | changes
    return TokenizerSpec.model_validate(given)


def chunk(words: Mapping[str, int]) -> counts.CountBatch:
    ordered = sorted(words.items())
    return counts.CountBatch([word for word, _ in ordered], [count for _, count in ordered])


def count(sentences: list[str], spaces: str) -> counts.CountBatch:
    cut = huggingface.pre_tokenizer(spaces).pre_tokenize_str
    found = Counter(
        word for line in sentences for word, _ in cut(huggingface.surface(line, spaces))
    )
    return chunk(found)


@pytest.fixture(scope="module")
def sentences(root: Path) -> list[str]:
    """Segmented sentences of the demo's web text."""
    text = (root / "configs/demo/web.txt").read_text(encoding="utf-8")
    words = segment.open("mecab", None, 1)
    return segment_document(text[:40_000].split("\n"), CORPUS, words)


@pytest.fixture(scope="module")
def words(sentences: list[str]) -> counts.CountBatch:
    return count(sentences, "lossless")


@pytest.fixture(scope="module")
def tokenizer(words: counts.CountBatch) -> Tokenizer:
    return unigram.train([words], vocabulary())


def entries(tokenizer: Tokenizer) -> list[str]:
    found = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    return [entry for entry in found if entry is not None]


@pytest.mark.parametrize("spaces", ["lossless", "article"])
def test_the_entries_are_the_first_ones_the_alphabet_and_pieces_of_words(
    sentences: list[str], spaces: str
) -> None:
    words = count(sentences, spaces)
    found = entries(unigram.train([words], vocabulary(spaces=spaces)))
    first = huggingface.first_entries(spaces)
    assert len(found) == len(set(found)) == 1900
    assert tuple(found[: len(first)]) == first
    assert set("".join(words.words)) <= set(found)
    text = "\n".join(words.words)
    assert all(piece in text for piece in found[len(first) :])


def test_frequent_words_are_entries_whole(words: counts.CountBatch, tokenizer: Tokenizer) -> None:
    # From words alone sentencepiece finds few of them: every other string ends with the word as well.
    ranked = sorted(zip(words.counts, words.words, strict=True), reverse=True)
    frequent = {word for _, word in ranked[:150]}
    assert len(frequent & set(entries(tokenizer))) > 145


def test_training_again_in_another_process_gives_the_same_bytes(
    tmp_path: Path, root: Path, words: counts.CountBatch
) -> None:
    counts.write(tmp_path, [words])
    found = []
    for seed, cpus in (("0", os.sched_getaffinity(0)), ("12345", {min(os.sched_getaffinity(0))})):
        folder = tmp_path / seed
        folder.mkdir()
        allowed: Callable[[], None] = lambda cpus=cpus: os.sched_setaffinity(0, cpus)  # noqa: E731
        subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path), str(folder)],
            cwd=root,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
            preexec_fn=allowed,
        )
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]


def test_how_the_words_are_cut_into_chunks_does_not_show(
    words: counts.CountBatch, tokenizer: Tokenizer
) -> None:
    half = len(words.words) // 2
    parts = [
        counts.CountBatch(words.words[:half], words.counts[:half]),
        counts.CountBatch(words.words[half:], words.counts[half:]),
    ]
    assert unigram.train(iter(parts), vocabulary()).to_str() == tokenizer.to_str()


def test_decoding_gives_back_the_text(sentences: list[str], tokenizer: Tokenizer) -> None:
    text = "".join(f"{sentence}\n" for sentence in sentences)
    ids = tokenizer.encode(huggingface.surface(text, "lossless")).ids
    assert tokenizer.decode(ids) == plain_text(sentences)


def test_a_character_outside_the_alphabet_is_its_bytes(words: counts.CountBatch) -> None:
    limited = unigram.train([words], vocabulary(limit_alphabet=100, vocab_size=800))
    encoding = limited.encode("の㍻𠮷の")
    assert encoding.tokens == [
        "の",
        *(f"<0x{byte:02X}>" for byte in "㍻𠮷".encode()),
        "の",
    ]
    assert limited.decode(encoding.ids) == "の㍻𠮷の"


def test_in_article_mode_it_is_unknown(sentences: list[str]) -> None:
    made = unigram.train([count(sentences, "article")], vocabulary(spaces="article"))
    known, unknown = made.token_to_id("の"), made.token_to_id("<unk>")
    assert made.encode("の ไの").ids == [known, unknown, known]


def test_the_alphabet_is_what_is_most_frequent_and_of_equals_the_smaller() -> None:
    words = {"駅": 5, "伝": 5, "川": 9, "海": 5, "駅川": 1, "山川": 3}
    found = entries(unigram.train([chunk(words)], vocabulary(limit_alphabet=3, vocab_size=262)))
    assert set(found[259:]) == {
        "川",
        "駅",
        "伝",
    }  # 川 13, 駅 6; of 伝 and 海 the smaller code point


def test_no_piece_is_of_two_parts_that_a_rare_character_keeps_apart() -> None:
    words = {"日X本": 50, "日": 60, "本": 70, "国語": 60}
    found = entries(unigram.train([chunk(words)], vocabulary(limit_alphabet=4, vocab_size=264)))
    assert set(found[259:]) == {"日", "本", "国", "語", "国語"}


@pytest.mark.parametrize("sign", ["▁", "▅", "\t", "\x1f", "\x00", "\r", "a ", "�", "\U0010ffff"])
def test_characters_that_mean_something_to_sentencepiece_are_like_others(sign: str) -> None:
    word = f"あ{sign}い"
    size = 3 + len({*word, word})
    made = unigram.train([chunk({word: 50})], vocabulary(vocab_size=size, spaces="article"))
    assert set(entries(made)[3:]) == {word, *word}


def test_counts_beyond_32_bits_and_characters_rare_beside_them() -> None:
    words = {"駅伝": 2**40, "駅": 2**33, "伝": 2**31, "襷": 1, "襷山": 2, "山": 3}
    found = entries(unigram.train([chunk(words)], vocabulary(vocab_size=265)))
    assert set(found[259:]) == {"駅伝", "襷山", *"駅伝襷山"}


def test_a_word_of_a_million_characters(words: counts.CountBatch) -> None:
    long = counts.CountBatch([*words.words, "𪛖" * 1_000_000], [*words.counts, 1])
    made = unigram.train([long], vocabulary())
    assert made.get_vocab_size() == 1900
    text = "駅" * 1_000_000
    assert made.decode(made.encode(text).ids) == text


def test_a_vocabulary_larger_than_the_corpus_can_give_is_refused() -> None:
    words = chunk({"駅伝": 5, "駅": 3, "山川": 2})
    for wanted in (300, 2**31 - 1):
        only = rf"vocab_size={wanted}: the corpus yields only 265 entries for Unigram; lower it, to 263"
        with pytest.raises(InputError, match=only):
            unigram.train([words], vocabulary(vocab_size=wanted))
    assert unigram.train([words], vocabulary(vocab_size=265)).get_vocab_size() == 265


def test_a_vocabulary_smaller_than_its_alphabet_is_refused(words: counts.CountBatch) -> None:
    with pytest.raises(InputError, match="special tokens, bytes and alphabet alone take") as caught:
        unigram.train([words], vocabulary(vocab_size=300))
    least = int(str(caught.value).split("alone take ")[1].split()[0])
    assert unigram.train([words], vocabulary(vocab_size=least)).get_vocab_size() == least


@pytest.mark.parametrize("chunks", [[], [counts.CountBatch([], [])]])
def test_an_empty_corpus_is_refused(chunks: list[counts.CountBatch]) -> None:
    with pytest.raises(InputError, match="the corpus is empty"):
        unigram.train(chunks, vocabulary())


def test_sentencepiece_writes_nothing(
    words: counts.CountBatch, capfd: pytest.CaptureFixture[str]
) -> None:
    unigram.train([words], vocabulary())
    assert capfd.readouterr() == ("", "")


def test_a_model_of_single_characters_only() -> None:
    assert entries(unigram.train([chunk({"駅": 5, "山": 3})], vocabulary(vocab_size=261)))[
        259:
    ] == [
        "駅",
        "山",
    ]


def test_seeds_are_the_strings_that_cover_most_of_the_text() -> None:
    words = {"abab": 3, "abc": 2, "x": 9, "dd": 1}
    codes = np.array([ord(character) for word in words for character in word])
    text = "".join(words)
    found = unigram_seeds.find(
        codes, np.array([len(word) for word in words]), np.array(list(words.values()))
    )
    expected: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 2, len(word) + 1):
                expected[word[start:end]] += count
    ranked = sorted(
        ((piece, count) for piece, count in expected.items() if count >= 2),
        key=lambda item: (-item[1] * len(item[0]), len(item[0]), item[0]),
    )
    assert [(text[s.start : s.start + s.length], s.occurrences) for s in found] == ranked
