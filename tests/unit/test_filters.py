"""Filters of documents: each refuses what it should, and the recipe's order decides which is named."""

from __future__ import annotations

from typing import Any

import pytest

from kit.config.recipe import Filters
from kit.corpus.filters import refused_by, repeated_share


def refused(lines: list[str], **filters: Any) -> str | None:
    return refused_by(lines, Filters.model_validate(filters))


def test_without_filters_nothing_is_refused() -> None:
    for lines in (["。"], ["a"], ["同じ行"] * 9, ["あ" * 10_000]):
        assert refused(lines) is None


@pytest.mark.parametrize(("characters", "keeps"), [(9, False), (10, True), (20, True), (21, False)])
def test_length_counts_the_characters_of_all_lines(characters: int, keeps: bool) -> None:
    lines = ["あ" * 4, "い" * (characters - 4)]
    assert (refused(lines, length={"min": 10, "max": 20}) is None) == keeps


@pytest.mark.parametrize(
    ("line", "keeps"),
    [
        ("日本語の文です", True),
        ("カタカナーと々〆", True),
        ("ｶﾀｶﾅ𠮷野家", True),
        ("日本 english", False),  # 2 of 9: the space does not count
        ("日本語日 abcd", True),  # 4 of 8
        ("only English text", False),
        ("。。。、、、", False),
        ("한국어 문장", False),
    ],
)
def test_the_share_of_japanese_leaves_out_other_languages(line: str, keeps: bool) -> None:
    assert (refused([line], japanese={"min_share": 0.5}) is None) == keeps


@pytest.mark.parametrize(
    ("line", "keeps"),
    [
        ("文字だけの行", True),
        ("半分。。。は", True),  # 3 of 6
        ("★☆★☆あ", False),
        ("____", False),
        ("café 2026", True),
    ],
)
def test_the_share_of_symbols_leaves_out_what_is_no_text(line: str, keeps: bool) -> None:
    assert (refused([line], symbols={"max_share": 0.5}) is None) == keeps


def test_lines_that_repeat_are_counted_from_their_second_time_on() -> None:
    lines = ["一", "二", "一", "三"]
    assert repeated_share(lines) == 0.25
    assert refused(lines, repeated_lines={"max_share": 0.25}) is None
    assert refused(lines, repeated_lines={"max_share": 0.2}) == "repeated_lines"


def test_the_first_filter_that_refuses_is_named() -> None:
    everything: dict[str, Any] = {
        "repeated_lines": {"max_share": 0.1},
        "symbols": {"max_share": 0.1},
        "japanese": {"min_share": 0.9},
        "length": {"min": 100},
    }
    assert refused(["...", "..."], **everything) == "length"
    del everything["length"]
    assert refused(["...", "..."], **everything) == "japanese"
