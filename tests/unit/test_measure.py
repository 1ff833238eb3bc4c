"""What is measured of a tokenizer: figures counted by hand, and the same on real text, told otherwise."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kit.config.tokenizer import TokenizerSpec
from kit.data import shards
from kit.errors import InputError
from kit.tokenizer import huggingface, measure
from kit.tokenizer.counts import CountBatch
from kit.tokenizer.huggingface import END

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

SPACE, LINE_END = shards.SPACE, shards.LINE_END
DOCUMENTS = [
    [f"ab a {SPACE}ab {LINE_END}", f"b {SPACE} {SPACE}あ"],  # `ab| a| ▁ab|␤` and `b|▁|▁あ`
    ["ab ab"],
]
WORDS = CountBatch(["a", "ab", f"{SPACE}ab"], [30, 500, 2])


def tokenizer(spaces: str, letters: str = f"{SPACE}{LINE_END}ab") -> Tokenizer:
    entries = [*huggingface.first_entries(spaces), *letters, "ab"]
    return huggingface.from_merges(entries, [("a", "b")], spaces)


def figures(
    spaces: str, documents: Sequence[Sequence[str]] = DOCUMENTS, **changes: str
) -> dict[str, float]:
    return measure.measure(tokenizer(spaces, **changes), spaces, documents, [WORDS], 4).as_dict()


def test_the_figures_of_a_lossless_tokenizer_are_those_counted_by_hand() -> None:
    found = figures("lossless")
    # ab a ▁ ab ␤ b ▁ ▁ <0xE3> <0x81> <0x82>; ab ab
    assert (found["documents"], found["tokens"], found["words"]) == (2, 13, 7)
    assert (found["characters"], found["bytes"]) == (15, 17)
    assert found["characters_per_token"] == 15 / 13
    assert found["fertility"] == 12 / 7  # but for the line's end
    assert found["unknown_rate"] == 0
    assert found["exact"] == 1
    assert found["vocabulary_used"] == 8 / (3 + 256 + 5)
    # In the training text: a 30, ab 502, ▁ 2, END 4; one more of each of the 264 entries.
    total = 30 + 502 + 2 + 4 + 264
    held_out = {31: 1, 503: 4, 3: 3, 5: 2, 1: 5}  # a; ab; ▁; END; b, ␤, three bytes
    bits = -sum(times * math.log2(count / total) for count, times in held_out.items())
    assert found["bits_per_byte"] == pytest.approx(bits / 17)


def test_the_figures_of_an_article_tokenizer_are_those_counted_by_hand() -> None:
    found = figures("article")
    # ab a ab b <unk>; ab ab
    assert (found["tokens"], found["words"], found["characters"]) == (7, 7, 15)
    assert found["fertility"] == 1
    assert found["unknown_rate"] == 1 / 15
    # In the training text: a 30, ab 502, ▁ 2, END 4; one more of each of the 8 entries.
    total = 30 + 502 + 2 + 4 + 8
    held_out = {31: 1, 503: 4, 5: 2, 1: 2}  # a; ab; END; b, <unk>
    bits = 8 * 3 - sum(times * math.log2(count / total) for count, times in held_out.items())
    assert found["bits_per_byte"] == pytest.approx(bits / 17)
    assert found["exact"] == 1 / 2
    assert found["vocabulary_used"] == 4 / 8


def test_characters_that_are_left_out_of_the_alphabet_make_no_tokenizer_better() -> None:
    documents = [["あい うえ"], ["えお ab"]]
    few, many = (
        figures("article", documents, letters=f"{known}ab") for known in ("", "あいうえお")
    )
    assert (few["unknown_rate"], many["unknown_rate"]) == (6 / 8, 0)
    assert few["bits_per_byte"] > many["bits_per_byte"]


def test_a_line_end_that_is_no_entry_costs_its_bytes_but_no_fertility() -> None:
    found = figures("lossless", letters=f"{SPACE}ab")
    assert found["tokens"] == 15
    assert found["fertility"] == 12 / 7


def test_a_document_with_an_unknown_token_is_not_exact() -> None:
    assert figures("article", [["a あ"], ["a"]])["exact"] == 1 / 2
    assert figures("article", [["a <unk>"]], letters="ab<unk>")["exact"] == 1


@pytest.mark.parametrize("documents", [[], [[f"{LINE_END} {SPACE}"]], [["\xa0"]]])
def test_measuring_on_no_text_is_a_mistake(documents: list[list[str]]) -> None:
    for spaces in ("lossless", "article"):
        if (spaces, documents) == ("lossless", [["\xa0"]]):
            continue  # two bytes, that come back
        with pytest.raises(
            InputError, match=r"^corpus\.held_out: no text is held out to measure .* text$"
        ):
            figures(spaces, documents)


def test_figures_add_up_over_many_documents_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_WORDS", 2)
    monkeypatch.setattr(measure, "_CHARACTERS", 100)
    words = [f"{'a' * i}b" for i in range(1, 7)]
    chunks = [CountBatch(words[:5], [1, 9, 10, 2**40, 3]), CountBatch(words[5:], [100])]
    documents = [[word, f"{word} b"] for word in words for _ in range(100)]
    made = tokenizer("lossless")
    found = measure.measure(made, "lossless", documents, chunks, 7)
    training: Counter[int] = Counter()
    held_out: Counter[int] = Counter()
    for chunk in chunks:
        for word, count in zip(*chunk, strict=True):
            for token in made.encode(word).ids:
                training[token] += count
    for first, second in documents:
        for word in (first, *second.split(" ")):
            held_out.update(made.encode(word).ids)
    assert {n: c for n, c in enumerate(found.frequencies.tolist()) if c} == training
    assert found.figures.tokens == held_out.total()
    end = made.token_to_id(END)
    training[end], held_out[end] = 7, 600
    whole = training.total() + made.get_vocab_size()
    bits = -sum(n * math.log2((training[token] + 1) / whole) for token, n in held_out.items())
    assert found.figures.bits_per_byte == pytest.approx(bits / found.figures.bytes)
    classes = {0: (13, 1 + 9 * 2 + 3 * 5), 1: (10, 30), 2: (100, 600), 12: (2**40, 2**42)}
    (filled,) = np.nonzero(found.words)
    assert {
        int(power): (found.words[power], found.word_tokens[power]) for power in filled
    } == classes


def test_the_raw_share_is_that_of_sentences_whose_tokens_cross_no_word() -> None:
    # `aab` is a|ab, with or without its cut; `a b` becomes ab; `b ▁ab` is cut by its space.
    sentences = ["a ab", "a b", f"b {SPACE}ab", f"ab {LINE_END}"]
    assert figures("lossless", [sentences[:2], sentences[2:]])["raw_share"] == 3 / 4
    assert figures("article", [["a b", f"a {SPACE}b", "b a ab"]])["raw_share"] == 2 / 3


def test_everything_but_the_speed_is_the_same_again() -> None:
    one, other = (figures("lossless") for _ in range(2))
    for found in (one, other):
        assert found.pop("tokens_per_second") > 0
    assert one == other


def test_a_count_above_what_a_signed_integer_holds_is_measured() -> None:
    words = [CountBatch(["ab"], [2**64 - 1])]
    found = measure.measure(tokenizer("lossless"), "lossless", [["b"]], words, 2**40)
    assert 0 < found.figures.bits_per_byte < 200


def test_equal_figures_give_plots_of_equal_bytes(tmp_path: Path) -> None:
    found = measure.measure(tokenizer("lossless"), "lossless", DOCUMENTS, [WORDS], 4)
    for name in ("one.png", "other.png"):
        measure.plot(found, "bpe-264-5-lossless", tmp_path / name)
    one, other = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert one.startswith(b"\x89PNG")
    assert one == other


def test_a_plot_of_words_that_were_never_counted_is_a_plot(tmp_path: Path) -> None:
    found = measure.measure(tokenizer("article"), "article", DOCUMENTS, [], 0)
    measure.plot(found, "empty", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_candidates_are_compared_with_a_line_for_each_kind() -> None:
    candidates = [
        (TokenizerSpec(vocab_size=size, algorithm=algorithm), {"fertility": size / 1000})
        for size, algorithm in ((900, "bpe"), (500, "bpe"), (700, "unigram"))
    ]
    assert measure.lines(candidates) == {
        "bpe, lossless": [(500, {"fertility": 0.5}), (900, {"fertility": 0.9})],
        "unigram, lossless": [(700, {"fertility": 0.7})],
    }
    few = (TokenizerSpec(vocab_size=500, limit_alphabet=100), {"fertility": 0.4})
    assert list(measure.lines([*candidates, few])) == [
        "bpe, lossless, 100 characters",
        "bpe, lossless, 8,000 characters",
        "unigram, lossless, 8,000 characters",
    ]


def test_the_comparison_is_the_same_plot_in_whatever_order_they_come(tmp_path: Path) -> None:
    candidates = [(TokenizerSpec(vocab_size=size), figures("lossless")) for size in (264, 500)]
    measure.compare(candidates, tmp_path / "one.png")
    measure.compare(candidates[::-1], tmp_path / "other.png")
    one, other = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert one.startswith(b"\x89PNG")
    assert one == other
