"""Templates become the text that a reader saw; those without an entry leave a mark with their name."""

from __future__ import annotations

import re

import pytest

from kit.config import template_pattern
from kit.config.load import load_recipe
from kit.corpus.dump import marks
from kit.corpus.dump.countries import NAMES
from kit.corpus.dump.languages import LANGUAGES
from kit.corpus.dump.template_table import GROUPS
from kit.corpus.dump.templates import PageFacts, Templates
from kit.errors import ConfigError
from tests.conftest import ROOT

PAGE = PageFacts("霧浜県", (2022, 7, 1))
GIVES = {
    "{{仮リンク|ジョン・スミス|en|John Smith}}": "ジョン・スミス",
    "{{仮リンク|駅|en|Station|label=停車場}}": "停車場",
    "{{lang|en|Jane Doe}}": "Jane Doe",
    "{{Lang|1=en|2=Jane}}": "Jane",
    "{{lang-en|station}}": "英語: station",
    "{{Lang-en-short|station}}": "英: station",
    "{{en|Viva}}": "Viva",
    "{{Lang-ve|Zimbabwe}}": "Zimbabwe",
    "{{読み仮名|駅伝|えきでん}}": "駅伝（えきでん）",
    "{{読み仮名 ruby不使用|'''駅'''|えき|{{lang-en-short|station}}}}": "'''駅'''（えき、英: station）",
    "{{読み仮名_ruby不使用|駅|えき}}": "駅（えき）",
    "{{ruby|襷|たすき}}": "襷（たすき）",
    "{{要出典範囲|date=2020年1月|百キロである}}": "百キロである",
    "{{要出典|定義だ|date=2021年5月}}": "定義だ",
    "{{年数|1920|1|1}}": "102",
    "{{年数|1990|8|1|2000|7|31}}": "9",
    "{{和暦|1920}}": "1920年（大正9年）",
    "{{和暦|昭和|20}}": "1945年（昭和20年）",
    "{{和暦|1989}}": "1989年（平成元年）",
    "{{没年齢|1966|7|11|2021|5|6}}": "2021年5月6日（54歳没）",
    "{{生年月日と年齢|1961|11|23}}": "1961年11月23日（60歳）",
    "{{効果音|ドカン}}": "ドカン",
    "{{Flagicon|JPN}}": "",
    "{{flag|JPN}}": "日本",
    "{{flag|青森県}}": "青森県",
    "{{JPN}}": "日本",
    "{{fb|JPN}}": "日本",
    "{{仮link|駅|en|Station}}": "駅",
    "{{よみがな|駅伝|えきでん}}": "駅伝（えきでん）",
    "{{Nihongo|Relay|駅伝|Ekiden}}": "Relay（駅伝、Ekiden）",
    "{{transliteration|ru|estafeta}}": "estafeta",
    "{{Script|Cyrl|эстафета}}": "эстафета",
    "{{abbr|JST|日本標準時}}": "JST",
    "{{cslist|甲|乙}}": "甲、乙",
    "1{{snd}}2": "1 – 2",
    "{{nowrap|一 二}}": "一 二",
    "{{旧字体|國}}": "國",
    "{{JIS2004フォント|辻}}": "辻",
    "{{color|red|赤}}": "赤",
    "{{IPA|w}}": "[w]",
    "{{ipa|i}}": "/i/",
    "{{Anchors|甲}}": "",
    "{{Harvnb|甲|2001}}": "",
    "{{Sfn|甲|2001|p=3}}": "",
    "{{hlist|一|[[二|に]]|三}}": "一・[[二|に]]・三",
    "{{sup|2}}": "<sup>2</sup>",
    "{{formatnum:1234567.5}}": "1,234,567.5",
    "{{#if:1|はい|いいえ}}": "はい",
    "{{#if: |はい|いいえ}}": "いいえ",
    "{{PAGENAME}}": "霧浜県",
    "{{DEFAULTSORT:きり}}": "",
    "{{Template:lang|en|a}}": "a",
    "{{lang\n|en\n|[[甲|乙]]{{!}}丙}}": "[[甲|乙]]|丙",
    "{{small|{{lang|en|{{nowrap|a}}}}}}": "a",
    "閉じない {{lang|en": "閉じない {{lang|en",
    "余る}}": "余る}}",
}  # fmt: skip


@pytest.mark.parametrize("wikitext", GIVES)
def test_a_template_gives_its_text(wikitext: str) -> None:
    assert Templates({}).expand(wikitext, PAGE).replace(marks.NOTE, "") == GIVES[wikitext]


def test_a_template_without_an_entry_leaves_its_name() -> None:
    templates = Templates({})
    text = templates.expand("甲{{知らない|一}}乙{{自治体人口/北海道|札幌市}}丙{{知らない}}", PAGE)
    unknown, value = f"{marks.UNKNOWN}0{marks.END}", f"{marks.VALUE}1{marks.END}"
    assert text == f"甲{unknown}乙{value}丙{unknown}"
    assert templates.names == ["知らない", "自治体人口/*"]


def test_a_template_without_its_parameter_is_not_known() -> None:
    templates = Templates({})
    assert templates.expand("{{仮リンク}}", PAGE).startswith(marks.UNKNOWN)
    assert templates.expand("{{和暦|不明}}", PAGE).startswith(marks.VALUE)


def test_the_recipe_adds_to_the_table() -> None:
    templates = Templates({"駅名": "{1}駅(?（{よみ}）)", "統計*": None, "lang": "{1}"})
    assert (
        templates.expand("{{駅名|霧浜}}、{{駅名|灯野|よみ=ひの}}", PAGE) == "霧浜駅、灯野駅（ひの）"
    )
    assert templates.expand("{{統計/人口}}", PAGE).startswith(marks.VALUE)
    assert templates.expand("{{lang|en|a}}", PAGE) == "en"


def test_nesting_is_bounded() -> None:
    deep = "{{small|" * 5000 + "甲" + "}}" * 5000
    assert marks.UNKNOWN in Templates({}).expand(deep, PAGE)


def test_a_name_is_in_the_table_once() -> None:
    names = [name for _, group in GROUPS for name in group.split(", ")]
    folded = [name[:1].upper() + name[1:] for name in names]
    assert len(folded) == len(set(folded))
    assert not any(re.search(r"[{}|_]|^\s|\s$", name) for name in names)


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in GROUPS if pattern], ids=repr)
def test_the_patterns_of_the_table_are_valid(pattern: str) -> None:
    assert template_pattern.parse(pattern)


@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        ("{1", "'{1'"),
        ("1}", "'1}'"),
        ("(?、{2}", "bracket"),
        ("{}", "names no parameter"),
        ("{=x}", "{=x}"),
    ],
)
def test_an_invalid_pattern_is_refused_with_its_part(pattern: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        template_pattern.parse(pattern)


@pytest.mark.parametrize(
    ("templates", "problem"),
    [
        ("{駅名: '{1'}", "bracket without its partner"),
        ("{'{{駅名}}': '{1}'}", "no name of a template"),
    ],
)
def test_an_invalid_template_of_the_recipe_is_refused(templates: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.wikipedia\.templates") as caught:
        load_recipe(ROOT / "configs/demo.yaml", [f"corpus.wikipedia.templates={templates}"])
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_languages_and_countries_are_whole() -> None:
    assert all(name and short and " " not in name for name, short in LANGUAGES.values())
    assert len(NAMES) > 300
    assert all(re.fullmatch(r"[A-Z]{2,3}\d{0,4}", code) for code in NAMES)
