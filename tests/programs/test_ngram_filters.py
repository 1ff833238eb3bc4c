"""Filters by n-grams of characters: compiled, they decide as a naive count does."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from kit.config.filters import Filters
from kit.corpus.filters.chain import Chain

LENGTHS = (1, 2, 3, 5, 6, 9)


def refused(lines: list[str], **filters: Any) -> str | None:
    return Chain(Filters.model_validate(filters)).refused_by(lines)


def measured(text: str, n: int) -> tuple[float, float]:
    """The share of the most frequent n-gram, and of the different ones that occur again."""
    counts = Counter(text[i : i + n] for i in range(len(text) - n + 1))
    again = sum(count > 1 for count in counts.values())
    return max(counts.values()) / counts.total(), again / len(counts)


def expected(text: str, top: dict[int, float], repeated: dict[int, float]) -> str | None:
    """The filter that refuses a text: from the shortest n-gram on, the most frequent one first."""
    for n in range(1, len(text) + 1):
        most, again = measured(text, n)
        if most > top.get(n, 1):
            return "top_ngrams"
        if again > repeated.get(n, 1):
            return "repeated_ngrams"
    return None


def test_a_share_may_be_reached_and_not_exceeded() -> None:
    assert refused(["ababb"], top_ngrams={2: 0.5}) is None
    assert refused(["abab"], top_ngrams={2: 0.5}) == "top_ngrams"
    assert refused(["abab"], repeated_ngrams={2: 0.5}) is None
    assert refused(["aaa"], repeated_ngrams={2: 0.5}) == "repeated_ngrams"


@pytest.mark.parametrize("seed", range(8))
def test_ngrams_are_measured_as_a_count_of_them_measures(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("あいう\n𠮷") for _ in range(draw.randint(1, 60)))
    lines = text.split("\n")  # and joined again
    for n in LENGTHS:
        if n > len(text):
            assert refused(lines, top_ngrams={n: 0}, repeated_ngrams={n: 0}) is None
            continue
        most, again = measured(text, n)
        for name, share in (("top_ngrams", most), ("repeated_ngrams", again)):
            assert refused(lines, **{name: {n: share}}) is None
            if share:
                shorter = dict.fromkeys(range(1, n), 1.0)
                below = shorter | {n: share * (1 - 1e-9)}
                assert refused(lines, **{name: below}) == name


def test_the_first_share_that_is_exceeded_names_the_filter() -> None:
    draw = random.Random(7)
    seen = Counter[str | None]()
    for _ in range(400):
        text = "".join(
            draw.choice("あいうえおかきくけこ"[: draw.randint(2, 10)]) for _ in range(50)
        )
        for _ in range(draw.randint(0, 2)):  # a part of it once more
            text += text[draw.randrange(40) :][: draw.randint(1, 30)]
        top = {n: draw.uniform(0, 0.6) for n in draw.sample(LENGTHS, 2)}
        repeated = {n: draw.uniform(0, min(1, 1.2 / n)) for n in draw.sample(LENGTHS, 3)}
        found = refused([text], top_ngrams=top, repeated_ngrams=repeated)
        assert found == expected(text, top, repeated), (text, top, repeated)
        seen[found] += 1
    assert min(seen.values()) > 40, seen
    assert len(seen) == 3


def test_a_hash_of_ngrams_tells_long_and_similar_ones_apart() -> None:
    # The Thue-Morse words collide in every polynomial modulo a power of two, from 1024 characters on.
    codes = np.array([0x3042 + bin(i).count("1") % 2 for i in range(4096)], np.uint32)
    text = "".join(map(chr, codes))
    most, again = measured(text, 20)
    assert refused([text], top_ngrams={20: most}, repeated_ngrams={20: again}) is None
    assert refused([text], top_ngrams={20: most * (1 - 1e-9)}) == "top_ngrams"
    assert refused([text], repeated_ngrams={20: again * (1 - 1e-9)}) == "repeated_ngrams"


def test_swallow_keeps_prose_and_leaves_out_lists_and_repetitions() -> None:
    draw = random.Random(0)
    kana = [chr(code) for code in range(0x3042, 0x3094)]
    prose = ["".join(draw.choice(kana) for _ in range(40)) + "。" for _ in range(12)]
    swallow = {"preset": "swallow-v1"}
    assert refused(prose, **swallow) is None
    assert refused(prose[:9], **swallow) == "japanese_letters"
    assert refused([*prose, *prose[:6]], **swallow) == "repeated_lines"
    assert refused([line.replace("。", "…") for line in prose], **swallow) == "ellipses"
    tails = [line[:10] + prose[n % 6][10:] for n, line in enumerate(prose)]  # in two lines each
    assert refused(tails, **swallow) == "repeated_ngrams"
