"""Sentence splitting as textformatting's ssplit does it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.corpus import sentences
from kit.corpus.sentences import cut_lines, split
from tests.benchmarks.peers.script import ssplit

if TYPE_CHECKING:
    from pathlib import Path

LINES = st.text(st.sampled_from("あ日aB1 \u3000\x85。．？！♪…?!（(）)「“」”『』、.ー"), max_size=40)

LONG = "霧" * 10_000  # fewer characters would be split line by line
# What textformatting's `ssplit` gives, where it differs from cuts alone: it drops white space around a
# sentence, and a sentence of nothing else.
STRIPPED = [
    ("", []),
    (" ", []),
    (" \u3000\t", []),
    (" 一文だけ ", ["一文だけ"]),
    ("Yes! No. ", ["Yes!", "No."]),
    ("質問。\u3000→\u3000答え。", ["質問。", "→\u3000答え。"]),
    ("一つ。 。二つ", ["一つ。", "。", "二つ"]),
    ("。 二つ", ["。", "二つ"]),
    ('何？ "次"', ["何？", '"次"']),
    ("(a! b) c! d", ["(a! b) c!", "d"]),
    ("「開いた。 次。 ", ["「開いた。 次。"]),
    ("一つ。\u2028二つ。\x85", ["一つ。", "二つ。"]),
    ("一つ。\ufeff二つ。\u200b", ["一つ。", "\ufeff二つ。", "\u200b"]),  # no white space
]


def split_lines(lines: list[str], *, strip: bool = False) -> list[list[str]]:
    """The sentences of each line, cut together."""
    text, counts = cut_lines(lines, strip=strip)
    flat = iter(text.split("\n"))
    rows = [list(itertools.islice(flat, count)) for count in counts]
    return [row if line else [] for line, row in zip(lines, rows, strict=True)]


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("", []),
        ("一文だけ", ["一文だけ"]),
        ("一つ。二つ。", ["一つ。", "二つ。"]),
        ("一つ．二つ？三つ！四つ♪五つ…六つ?七つ!八つ",
         ["一つ．", "二つ？", "三つ！", "四つ♪", "五つ…", "六つ?", "七つ!", "八つ"]),
        ("3.14です。a.b", ["3.14です。", "a.b"]),
        ("ええっ！？本当…。そう", ["ええっ！？", "本当…。", "そう"]),
        ("。。。", ["。。。"]),
        ("。先頭", ["。", "先頭"]),
        ("「はい。いいえ。」と言う。次。", ["「はい。いいえ。」と言う。", "次。"]),
        ("（注。注）文。次。", ["（注。注）文。", "次。"]),
        ("(注。注）文。次。", ["(注。注）文。", "次。"]),
        ("“a。b”c。d。", ["“a。b”c。", "d。"]),
        ("「a。b”c。d。", ["「a。b”c。", "d。"]),
        ("『はい。いいえ。』次。", ["『はい。", "いいえ。", "』次。"]),
        ("（注）『はい。いいえ。』次。", ["（注）『はい。", "いいえ。", "』次。"]),
        ("「開いたまま。次。その次。", ["「開いたまま。次。その次。"]),
        ("一つ。「開いた。次。", ["一つ。", "「開いた。次。"]),
        ("閉じる」だけ。次。", ["閉じる」だけ。次。"]),
        ("（「一。）」二。三。", ["（「一。）」二。", "三。"]),
    ],
)  # fmt: skip
def test_a_line_is_split_as_documented(line: str, sentences: list[str]) -> None:
    assert split(line) == sentences
    assert split_lines([line, LONG, line]) == [sentences, [LONG], sentences]


@given(LINES)
def test_sentences_joined_are_the_line(line: str) -> None:
    sentences = split(line)
    assert "".join(sentences) == line
    assert all(sentences)


@given(LINES.filter(lambda line: not set(line) & set("（(）)「“」”")))
def test_a_line_without_brackets_is_cut_behind_each_run_of_marks_and_nowhere_else(
    line: str,
) -> None:
    marks = set("。．？！♪…?!")
    sentences = split(line)
    for sentence, following in itertools.pairwise(sentences):
        assert sentence[-1] in marks
        assert following[0] not in marks
    for sentence in sentences:
        body = sentence.rstrip("".join(marks))
        assert not set(body) & marks


@pytest.mark.parametrize(("line", "sentences"), STRIPPED)
def test_stripped_sentences_are_those_of_textformatting(line: str, sentences: list[str]) -> None:
    assert ssplit(line) == sentences  # textformatting's own, where it is installed
    assert split_lines([line], strip=True) == [sentences]
    assert split_lines([line, LONG, line], strip=True) == [sentences, [LONG], sentences]


@settings(max_examples=200)
@given(st.lists(LINES))
def test_lines_together_are_split_as_each_alone(lines: list[str]) -> None:
    assert split_lines(lines) == [split(line) for line in lines]
    assert split_lines([*lines, LONG]) == [*map(split, lines), [LONG]]
    found = [ssplit(line) for line in lines]  # counts brackets in the whole text held
    assert split_lines(lines, strip=True) == found
    assert split_lines([*lines, LONG], strip=True) == [*found, [LONG]]


def test_a_bracket_that_stays_open_has_no_character_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []

    def noted(text: str, opening: str, closing: str) -> int:
        counted.append(len(text))
        return opened(text, opening, closing)

    opened = sentences._opened
    monkeypatch.setattr(sentences, "_opened", noted)
    line = "一つ。「" + "文である。" * 2_000
    assert split(line) == ["一つ。", line[3:]]
    assert sum(counted) == 2 * len(line)  # once for each of the two sorts of brackets
    counted.clear()
    assert split_lines([line]) == [split(line)]
    assert sum(counted) <= 2 * len(line)


def test_the_demo_is_split_as_textformatting_splits_it(root: Path) -> None:
    ssplit = pytest.importorskip("textformatting").ssplit
    for line in (root / "configs/demo/web.txt").read_text(encoding="utf-8").splitlines():
        assert split_lines([line], strip=True) == [ssplit(line)], line


@given(LINES)
def test_random_lines_are_split_as_textformatting_splits_them(line: str) -> None:
    ssplit = pytest.importorskip("textformatting").ssplit
    assert split_lines([line], strip=True) == [ssplit(line)]
