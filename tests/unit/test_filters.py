"""Filters of documents: each refuses what it should, and the order decides which is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kit.config.filters import PRESETS
from kit.config.recipe import Filters
from kit.corpus.filters.chain import Chain
from kit.data import shards
from kit.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Workdir


def refused(lines: list[str], **filters: Any) -> str | None:
    return Chain(Filters.model_validate(filters)).refused_by(lines)


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


# One line each, with as much of it as is allowed, and a little more.
ONE_LINE: list[tuple[str, dict[str, Any], str, str]] = [
    ("kana", {"within": 3}, "漢字の", "漢字字の"),
    ("japanese_letters", {"min": 4}, "あ漢カ。abc", "あ漢カabc"),
    ("japanese_letters", {"min_share": 0.5}, "あ漢ab", "あ漢abc"),
    ("hiragana", {"min_share": 0.5}, "あいカ漢", "あ。カ漢"),
    ("hiragana", {"max_share": 0.5}, "あいカ漢", "あいう漢"),
    ("katakana", {"max_share": 0.5}, "アイう漢", "アイウ漢"),
    ("katakana", {"max_share": 0.5}, "アーーーう", "アイーーーう"),  # ー counts for neither
    ("kanji", {"min_share": 0.5}, "𠮷漢あ、", "漢ああ、"),
    ("sentence_length", {"min_mean": 3}, "いち。にい！", "一。にい！"),
    ("sentence_length", {"max_mean": 3}, "いち。にい！", "いち。にいい！"),
    ("sentence_length", {"max": 4}, "いちい。に！", "いちいい。に！"),
    ("full_stops", {"every": 4}, "あいう。", "あいうえ。"),
    ("ellipses", {"max_share": 0.5}, "いち…。に… 。", "いち…"),
    ("punctuated_lines", {"min_share": 1}, "「いち」", "いち"),
    ("punctuated_lines", {"min_share": 1, "quotes": False}, "いち⁉", "「いち」"),
    ("bullet_lines", {"max_share": 0.5}, "いち-", " - いち"),
    ("ellipsis_lines", {"max_share": 0.5}, "…いち", "いち..."),
    ("compression", {"min": 0.5}, "いろはにほへと", "い" * 50),
    ("compression", {"max": 1.5}, "いろはにほへと", "い"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "kept", "dropped"), ONE_LINE)
def test_each_filter_keeps_what_its_rule_allows_and_no_more(
    name: str, rule: dict[str, Any], kept: str, dropped: str
) -> None:
    assert refused([kept], **{name: rule}) is None
    assert refused([dropped], **{name: rule}) == name


def test_lines_and_sentences_that_repeat_are_counted_from_their_second_time_on() -> None:
    lines = ["一", "二", "一", "三"]
    assert refused(lines, repeated_lines={"max_share": 0.25}) is None
    assert refused(lines, repeated_lines={"max_share": 0.2}) == "repeated_lines"
    long = ["長い行である", "二", "長い行である"]  # 6 of 13 characters repeat
    assert refused(long, repeated_lines={"max_character_share": 0.47}) is None
    assert refused(long, repeated_lines={"max_character_share": 0.46}) == "repeated_lines"
    one_line = ["一。二。一。三。"]
    assert refused(one_line, repeated_lines={"max_share": 0}) is None
    assert refused(one_line, repeated_sentences={"max_share": 0.25}) is None
    assert refused(one_line, repeated_sentences={"max_share": 0.24}) == "repeated_sentences"


@pytest.mark.parametrize("preset", [name for name in PRESETS if name])
def test_a_key_beside_a_preset_replaces_or_turns_off_one_of_its_thresholds(preset: str) -> None:
    whole = Filters.model_validate({"preset": preset})
    for name, rule in (PRESETS[preset] or {}).items():
        assert getattr(whole, name) == getattr(Filters.model_validate({name: rule}), name)
    first = next(name for name in PRESETS[preset] if name not in ("hojichar", "words"))
    off = Filters.model_validate({"preset": preset, first: None})
    assert off == whole.model_copy(update={first: None})
    assert Filters.model_validate(whole.model_dump(mode="json")) == whole  # a recorded recipe
    assert Filters.model_validate(off.model_dump(mode="json")) == off


# Words


def test_words_of_a_list_count_together_and_katakana_only_where_they_stand_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeff戦争\r\nアダルト\n\n(笑)\n", encoding="utf-8")
    rule = {"bad": {"file": str(path), "max": 1}}
    assert refused(["戦争とヤングアダルト、アダルト版"], words=rule) == "words.bad"
    assert refused(["戦争とヤングアダルト、アダルトー"], words=rule) is None
    assert refused(["(笑)(笑)"], words=rule) == "words.bad"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"\n \n", "no word in it"), (b"a\n\xff", "byte 3 is not UTF-8")],
)
def test_a_list_that_holds_no_words_is_an_error(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"corpus\.filters\.words\.bad\.file=.*{said}"):
        refused(["一"], words={"bad": {"file": str(path)}})


def test_the_words_of_a_list_decide_the_shards_and_its_path_does_not(workdir: Workdir) -> None:
    workdir.make(workdir.recipe(), "download")

    def causes(name: str, content: str) -> Any:
        (workdir.folder / name).write_text(content)
        given = f"corpus.filters.words.bad.file={workdir.folder / name}"
        return shards.expected(workdir.recipe(given))[0].causes

    assert causes("a.txt", "一\n") == causes("b.txt", "一") != causes("a.txt", "二")


def test_a_list_is_relative_to_the_file_of_the_recipe(workdir: Workdir) -> None:
    text = workdir.recipe_file.read_text(encoding="utf-8")
    words = "corpus:\n  filters: {words: {bad: {file: lists/bad.txt}}}\n"
    workdir.recipe_file.write_text(text.replace("corpus:\n", words, 1), encoding="utf-8")
    found = workdir.recipe().corpus.filters.words["bad"].file
    assert found == str(workdir.recipe_file.resolve().parent / "lists" / "bad.txt")


# HojiChar


def test_a_filter_of_hojichar_refuses_by_its_own_rule() -> None:
    rule = {
        "stops": {"filter": "DiscardRareKuten", "arguments": {"max_average_sentence_length": 4}}
    }
    assert refused(["おはよ。"], hojichar=rule) is None
    assert refused(["おはよう。"], hojichar=rule) == "hojichar.stops"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"filter": "Nonsense"}, "filter=Nonsense: HojiChar has no such filter"),
        ({"filter": "DiscardAds", "arguments": {"no": 1}}, "arguments.no: DiscardAds has no such"),
        ({"filter": "MaskPersonalInformation"}, "changes a document"),
    ],
)
def test_what_hojichar_has_not_or_changes_is_an_error(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"corpus\.filters\.hojichar\.one.*{said}"):
        refused(["電話は06-1234-5678です。"], hojichar={"one": rule})


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


def test_a_threshold_is_a_share_and_a_preset_has_a_name(workdir: Workdir) -> None:
    for mistake in (
        "top_ngrams.2=1.5",
        "top_ngrams.0=0.5",
        "preset=swallow",
        "hiragana.min_share=2",
    ):
        with pytest.raises(ConfigError, match=r"corpus\.filters\."):
            workdir.recipe(f"corpus.filters.{mistake}")
    found = workdir.recipe("corpus.filters.top_ngrams.2=0.5").corpus.filters
    assert found.top_ngrams == {2: 0.5}
