"""Filters over words: measured as a naive count measures, on the words of the segmenter."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from kit.config.filters import Filters
from kit.config.recipe import Corpus
from kit.corpus import segment
from kit.corpus.filters.by_words import WordChain
from kit.corpus.filters.segmented import Segmented
from kit.corpus.steps import Steps, segmented
from kit.data import shards


def refused(lines: list[str], **filters: Any) -> str | None:
    """What refuses a document whose words have spaces between them."""
    text = "".join(f"{line} {shards.LINE_END}\n" for line in lines)
    plain = [line.replace(" ", "").replace(shards.SPACE, " ") for line in lines]
    return WordChain(Filters.model_validate(filters)).refused_by(plain, text)


def test_words_are_what_stands_between_spaces_without_the_marks_of_a_shard() -> None:
    facts = Segmented(["の foo", " é。"], "の ▁foo ␤\n▁é 。 ␤\n")
    text = facts.words.codes.tobytes().decode("utf-32-le")
    words = [text[start:end] for start, end in itertools.pairwise(facts.words.bounds)]
    assert words == ["の", "foo", "é", "。"]
    assert facts.words.number == 4
    assert facts.words.with_letters == facts.words.longer == 3
    assert facts.words.characters == 5
    assert facts.holds(["の", "foo", "x"], 2)
    assert not facts.holds(["fo", "o", "é。", "。"], 2)


# Words of one line each, with as much as is allowed, and a little more.
ONE_LINE: list[tuple[str, dict[str, Any], str, str]] = [
    ("word_count", {"min": 2}, "一 。 二", "一 。"),
    ("word_count", {"max": 1}, "一 … 。", "一 。 二"),
    ("word_length", {"min_mean": 2}, "一二三 。 四", "一二 。 四"),
    ("word_length", {"max_mean": 2}, "一二三 四", "一二三 四五"),
    ("words_with_letters", {"min_share": 0.5}, "一 2", "一 2 ④"),
    ("stop_words", {"words": ["の", "に"]}, "東京 の 北 に", "東京 の 北 には"),
    ("hashes_per_word", {"max": 0.5}, "# 一", "# 一 ##"),
    ("ellipses_per_word", {"max": 0.5}, "一 ...", "一 …..."),
    ("top_word_ngrams", {2: 0.6}, "一 二 三 四 五", "一 二 一 二"),
    ("repeated_word_ngrams", {2: 0.5}, "一 二 一 二", "一 二 一 二 一 二"),
    ("repeated_word_ngrams", {2: 0.4}, "一 二 三 一 四", "一二 三 一 二三"),  # the same string
]


@pytest.mark.parametrize(("name", "rule", "kept", "dropped"), ONE_LINE)
def test_each_filter_keeps_what_its_rule_allows_and_no_more(
    name: str, rule: dict[str, Any], kept: str, dropped: str
) -> None:
    assert refused([kept], **{name: rule}) is None
    assert refused([dropped], **{name: rule}) == name


def test_lines_are_counted_by_their_ends_between_them() -> None:
    assert refused(["一 二", "三 四"], line_ends_per_word={"max": 0.25}) is None
    assert refused(["一 二", "三"], line_ends_per_word={"max": 0.25}) == "line_ends_per_word"


@pytest.mark.parametrize("seed", range(12))
def test_ngrams_are_measured_as_a_naive_count_measures_them(seed: int) -> None:
    draw = random.Random(seed)
    words = [draw.choice(["あ", "い", "あい", "う", "𠮷野"]) for _ in range(draw.randint(1, 80))]
    size = len("".join(words))
    for n in (1, 2, 3, 5, 8):
        for name, measure in (("top_word_ngrams", top), ("repeated_word_ngrams", repeated)):
            share = measure(words, n) / size
            if not 0 < share <= 1:
                continue
            assert refused([" ".join(words)], **{name: {n: share}}) is None, (name, n)
            below = {1: 1.0, n: share * (1 - 1e-9)}
            assert refused([" ".join(words)], **{name: below}) == name, (name, n)


def test_the_first_share_that_is_exceeded_names_the_filter() -> None:
    draw = random.Random(7)
    seen = Counter[str | None]()
    for _ in range(400):
        words = [draw.choice(["あ", "い", "あい", "う", "うえ", "お"]) for _ in range(60)]
        for _ in range(draw.randint(0, 2)):  # a part of it once more
            begin = draw.randrange(50)
            words += words[begin : begin + draw.randint(1, 30)]
        size = len("".join(words))
        shares = {n: draw.uniform(0, 0.5) for n in draw.sample((1, 2, 3, 4), 2)}
        again = {n: draw.uniform(0, 1) for n in draw.sample((3, 4, 5, 7), 2)}
        exceeds = any(top(words, n) / size > share for n, share in shares.items())
        expected = "top_word_ngrams" if exceeds else None
        if not exceeds and any(repeated(words, n) / size > share for n, share in again.items()):
            expected = "repeated_word_ngrams"
        found = refused([" ".join(words)], top_word_ngrams=shares, repeated_word_ngrams=again)
        assert found == expected, (words, shares, again)
        seen[found] += 1
    assert min(seen.values()) > 40, seen
    assert len(seen) == 3


def top(words: list[str], n: int) -> int:
    """The characters of the first of the most frequent n-grams."""
    counts = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    return len(counts.most_common(1)[0][0]) * counts.most_common(1)[0][1] if counts else 0


def repeated(words: list[str], n: int) -> int:
    """The characters of n-grams that repeat an earlier one, read from the beginning."""
    seen, characters, place = set[str](), 0, 0
    while place <= len(words) - n:
        ngram = "".join(words[place : place + n])
        again = ngram in seen
        characters += len(ngram) * again
        place += n if again else 1
        seen.add(ngram)
    return characters


def test_a_document_is_left_out_for_its_words_and_counted_under_the_filter() -> None:
    recipe = Corpus.model_validate(
        {
            "sources": {"web": {"kind": "plaintext", "location": "web.txt"}},
            "unit_mb": 1,
            "tasks": 1,
            "held_out": 0.1,
            "segmenter": "mecab",
            "filters": {"stop_words": {"words": ["の", "を"], "min": 2}},
        }
    )
    documents = [["霧の朝。", "駅を出る。"], ["霧の朝。"]]
    with segment.open(*segment.resolve("mecab"), 1) as words:
        steps = Steps(recipe)
        kept, dropped = segmented(documents, steps, words)
    assert kept[0].left_out is None
    assert shards.plain_text(kept[1].split("\n")) == "霧の朝。\n駅を出る。\n"
    assert dropped[0].left_out == "stop_words"
    assert not dropped[1]
    steps.count_left_out(dropped[0])
    counted = steps.counts["left out: stop_words"]
    assert counted == {"documents": 1, "lines": 1, "characters": 4}


def test_the_preset_of_fineweb_keeps_prose_and_leaves_out_lists() -> None:
    draw = random.Random(0)
    prose = [
        " ".join([*(draw.choice("山川海空雨風雪月日星のにをは") for _ in range(20)), "。"])
        for _ in range(4)
    ]
    fineweb = {"preset": "fineweb2-jpn"}
    assert refused(prose, **fineweb) is None
    assert refused(prose[:2], **fineweb) == "word_count"
    assert refused([*prose, *"甲乙丙丁戊己庚辛壬癸"], **fineweb) == "line_ends_per_word"
    assert refused([*prose, prose[0][2:]], **fineweb) == "repeated_word_ngrams"
