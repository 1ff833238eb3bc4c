"""Wikitext on its way to lines: marks, scripts, links, headings, lists, formulas, sentences left out."""

from __future__ import annotations

import pytest

from kit.config.wikipedia import Wikipedia
from kit.corpus.dump.article import Article
from kit.corpus.dump.simplify import simplify
from kit.corpus.dump.tally import Tally
from kit.corpus.dump.templates import PageFacts, Templates


def lines_of(wikitext: str, tally: Tally | None = None, **keys: object) -> list[str]:
    """The lines of an article that has no links or tables left for wikiextractor to replace."""
    section, templates = Wikipedia.model_validate(keys), Templates({})
    tally = tally or Tally()
    text = simplify(wikitext, templates, PageFacts("題", (2022, 7, 1)), section, tally)
    return Article(section, templates.names, tally).lines(text)


LINES = {
    "10<sup>3</sup>とH<sub>2</sub>O": ["10³とH₂O"],
    "10<sup>-3</sup>、x<sup>n+1</sup>": ["10⁻³、xⁿ⁺¹"],
    "10<sup>1.5</sup>倍": ["10^1.5倍"],
    "1<sup>er</sup>とx<sub>max</sub>": ["1erとxmax"],
    "<small>小さい</small>字": ["小さい字"],
    "関数は<code>print(x)</code>と<code>()</code>": ["関数はprint(x)と()"],
    "タグは&lt;code&gt;と&lt;/code&gt;": ["タグは<code>と</code>"],
    "<nowiki>{{lang|en|a}}</nowiki>と書く": ["{{lang|en|a}}と書く"],
    "<ruby>駅<rt>えき</rt></ruby>": ["駅（えき）"],
    "<ruby>駅<rp>（</rp><rt>えき</rt><rp>）</rp></ruby>": ["駅（えき）"],
    "''et''は'''合字'''": ["etは合字"],
    "本文<ref name=a>{{Cite web}}</ref>と<ref name=a />続き<!-- 見えない -->。": ["本文と続き。"],
    "提供される。<ref>注</ref>。": ["提供される。"],
    "[[:en:X|酸化]]、[[Re:ゼロ]]、[[CSI:科学|科学]]、[[Help:甲|乙]]": ["酸化、Re:ゼロ、科学、乙"],
    "[[:en:Ekiden]]、[[:Category:駅]]": ["en:Ekiden、Category:駅"],
    "[[駅]]と[[駅伝|えきでん]]": ["駅とえきでん"],
    "#転送 [[駅伝]]": [],
    "#REDIRECT [[駅伝]]": [],
    "人口:{{自治体人口/北海道|札幌市}}人": [],
    "前。人口は{{自治体人口/北海道|札幌市}}人である。後。": ["前。後。"],
    "札幌市（人口{{自治体人口/北海道|札幌市}}人）は市。": ["札幌市は市。"],
    "「{{知らない|甲}}」という。次。": ["次。"],
    "{{知らない|甲}}は、駅。次。": ["次。"],
    "駅である{{知らない|甲}}。次{{知らない}}。": ["駅である。次。"],
    "{{知らない|甲}}": [],
    "速さは<math>v</math>で、遅い。次。": ["次。"],
    "[http://a<ref>": ["[http://a"],
    "閉じない<ref>注": ["閉じない注"],
}


@pytest.mark.parametrize("wikitext", LINES)
def test_wikitext_gives_lines(wikitext: str) -> None:
    assert lines_of(wikitext) == LINES[wikitext]


LISTS = "前。\n* 甲\n** 乙\n# 丙\n;丁 : 戊\n:*己\n:;庚\n:辛\n; 壬\n<ul><li>癸</li></ul>"


def test_items_of_lists_are_lines_without_marks_or_left_out() -> None:
    tally = Tally()
    assert lines_of(LISTS, tally) == [
        "前。",
        *"甲乙丙丁戊己庚",
        ":辛",
        *"壬癸",
    ]  # wikiextractor has no `:`
    assert tally.counts["list items kept"] == 9
    assert lines_of(LISTS, tally, lists="drop") == ["前。", ":辛"]
    assert tally.counts["list items left out"] == 9


HEADINGS = (
    "序。\n== 甲 ==\n=== 乙 ===\n文。\n=== 空 ===\n== 外部リンク ==\n* 一\n=== 下 ===\n二\n"
    "==丙==\n{{知らない}}\n== 丁 ==\n三。"
)


def test_headings_are_lines_as_in_the_source_or_left_out() -> None:
    tally = Tally()
    assert lines_of(HEADINGS, tally) == ["序。", "甲", "乙", "文。", "丁", "三。"]
    assert tally.counts["headings kept"] == 3
    assert tally.counts["sections left out"] == 1
    assert lines_of(HEADINGS, tally, headings="drop") == ["序。", "文。", "三。"]
    kept = lines_of(HEADINGS, tally, leave_out_sections=["甲"])
    assert kept == ["序。", "外部リンク", "一", "下", "二", "丁", "三。"]


def test_formulas_are_left_out_with_their_sentence_or_kept_as_tex() -> None:
    tally = Tally()
    text = "前。速さは<math>v = \\frac{d}{t}</math>である。後。\n:<math>x</math>"
    assert lines_of(text, tally) == ["前。後。"]
    assert tally.counts["sentences left out with a formula"] == 1
    kept = lines_of(text, tally, formulas="tex")
    assert kept == ["前。速さは$v = \\frac{d}{t}$である。後。", ":$x$"]


def test_programs_are_lines_of_their_own() -> None:
    text = "前。<syntaxhighlight lang=c>\n# include <a>\n  {{b}}\n</syntaxhighlight>後。"
    assert lines_of(text) == ["前。", "# include <a>", "{{b}}", "後。"]
    assert lines_of("<source lang=c inline>f()</source>と書く。") == ["f()と書く。"]


def test_templates_that_are_not_known_are_counted_by_name() -> None:
    tally = Tally()
    lines_of("甲は{{知らない|一}}と{{知らない|二}}だ。{{別|三}}\n{{箱}}\n{| \n", tally)
    assert tally.templates == {"知らない": 2, "別": 1}
    assert tally.boxes == {"箱": 1}
    assert tally.counts["sentences left out with a template without a text"] == 1


def test_control_characters_of_an_article_are_no_marks() -> None:
    assert lines_of("\x01" + "2甲。\n&#1;2乙。\n\x04" + "9\x07丙。") == ["2甲。", "2乙。", "9丙。"]
