"""Cleaning: what wikiextractor leaves goes, ordinary text stays, in a time in proportion."""

from __future__ import annotations

import pytest

from kit.config.wikipedia import Wikipedia
from kit.corpus.dump.article import Article
from kit.corpus.dump.tally import Tally


def clean(text: str) -> list[str]:
    """The lines of an extracted article."""
    return Article(Wikipedia(), [], Tally()).lines(text)


CLEANED = [
    # entities: wikiextractor escapes once more, and articles hold them twice
    ("R&amp;B と AT&amp;amp;T", "R&B と AT&T"),
    ("日常生活に &lt;禅的思考&gt; を", "日常生活に <禅的思考> を"),
    ("二重の &amp;lt;実体&amp;gt; と &amp;apos;", "二重の <実体> と '"),
    ("数の&amp;#12354;と&amp;#x3044;", "数のあとい"),
    # tags and comments
    ("&lt;ruby&gt;&lt;rb&gt;漢字&lt;/rb&gt;&lt;rt&gt;かんじ&lt;/rt&gt;&lt;/ruby&gt;", "漢字かんじ"),
    ('本文&lt;ref name="甲"&gt;である', "本文である"),
    ("一&lt;BR /&gt;二&lt;/div&gt;", "一二"),
    ("前&lt;!-- 編集者へ --&gt;後", "前後"),
    # emptied parentheses
    ("アンパサンド（&amp;, ）は、記号である。", "アンパサンド（&）は、記号である。"),
    ("社会学（しゃかいがく、）は、", "社会学（しゃかいがく）は、"),
    ("古代エジプト（こだいエジプト、; ）は、", "古代エジプト（こだいエジプト）は、"),
    ("パリ（、巴里）は", "パリ（巴里）は"),
    ("映画（えいが、、、）とは", "映画（えいが）とは"),
    ("朝鮮語（、、）など", "朝鮮語など"),
    ("グレイ（）は（ ）、（；）と（, 、 ）", "グレイは、と"),
    ("EU（）とVim（、、）と括弧（、、）", "EUとVimと括弧"),
    ("パリ・ミュゼ()という市の組織", "パリ・ミュゼという市の組織"),
    ("1938年映画法 () の登録年", "1938年映画法 の登録年"),
    ("自由公正党（ -, ）が", "自由公正党が"),
    ("スペイン語（スペインご、西：）は", "スペイン語（スペインご）は"),
    ("エジプト（ラテン翻字: ）", "エジプト"),
    ("甲（乙（、）丙（（）））丁", "甲（乙丙）丁"),
    ("法人（甲、、乙）", "法人（甲、乙）"),
    ("ミスライム（, ミツライム）となる", "ミスライム（ミツライム）となる"),
    # magic words, templates, links, tables, settings
    ("__NOTOC__概要__目次強制__＿＿目次非表示＿＿", "概要"),
    ("駅伝は{{lang|en|{{補助|relay}}}}である", "駅伝はである"),
    ("[[襷|たすき]]を[[渡す]]", "たすきを渡す"),
    ("川[[ファイル:川.jpg|thumb|[[灯野川]]の鮎]]の魚[[Category:川]]", "川の魚"),
    ("DEFAULTSORT:あんはさんと", ""),
    ("デフォルトソート：あん", ""),
    ("[[Category:記号", ""),
    ('! style="width:5em" | 名前', ""),
    ("{| class=wikitable", ""),
    # what is no character
    ("壊れた\ud800文\x00字\x84列\ufffeの\x1b終わり", "壊れた文字列の終わり"),
    ("　字下げ　", "字下げ"),
]
KEPT = [
    "a < b かつ c > d",
    "x<y、y>z",
    "<禅的思考>と<動詞は括弧内に>",
    "if (a < b) { c > d; }",
    "main()を呼ぶと、f(x, )やarray[0]()になる",
    "コンマ（,）、ピリオド（.）、括弧（()、[]）以外の",
    "読点（、）や「読点」（、）、セミコロン（；）",
    "(^_^;)と（^_^;）と(;_;)",
    "麻宮 騎亜（あさみや きあ、1963年3月9日 - ）は",
    "マイナス（-）とプラス（+）",
    "1,000（1,000,000）",
    "（注：例外がある）",
    "配列 [[1, 2], [3, 4]] と ]] と [[",
    "}} と {{ と {a} と __FILE__ と __init__",
    "https://example.org/?a=1&copy=2&lt=3",
    "&unknown; と & と &;",
    "（閉じない（括弧と）閉じた",
    "（混ざった)括弧",
    "!important と | と |x|",
    "「」は鉤括弧である",
    "<!-- 閉じない",
    "Category: Theoryは著作である",
]


@pytest.mark.parametrize(("text", "want"), CLEANED)
def test_what_is_left_of_markup_goes(text: str, want: str) -> None:
    assert clean(text) == ([want] if want else [])


@pytest.mark.parametrize("end", [*"\n\v\f\r\x85\u2028\u2029", "\r\n", "&#x2028;"])
def test_all_mandatory_breaks_of_unicode_end_a_line(end: str) -> None:
    assert clean(f"前半{end}後半。{end}{end}次") == ["前半", "後半。", "次"]


@pytest.mark.parametrize("text", KEPT)
def test_ordinary_text_stays(text: str) -> None:
    assert clean(text) == [text]


def test_escaped_text_stays_text() -> None:
    assert clean("a &lt; b かつ c &gt; d") == ["a < b かつ c > d"]


def test_lines_stay_lines_and_blank_ones_go() -> None:
    assert clean("一\n\n \n（）\n&lt;br&gt;\n二\n") == ["一", "二"]
    assert clean("") == []


@pytest.mark.parametrize(
    "unit",
    ["(", "（", "（）", "（、", "<", "<div ", "&lt;", "<!--", "{{", "[[", "[[a|", "__", "&", "&amp;", " ",
     "　", "! style ", "; ", "英: 、", "\u0301", "（（（あ）））", "\n", "DEFAULTSORT", "日本"],
)  # fmt: skip
def test_time_is_in_proportion_to_the_text(unit: str) -> None:
    """100,000 characters of what rules begin with; a rule that looks back would take hours."""
    text = unit * (100_000 // len(unit))
    clean(text)
    clean(f"（{text}）")


def test_tags_go_and_lines_without_text_with_them() -> None:
    assert clean("一<br>二\n\n <ref>三</ref> \n<div>\n") == ["一二", "三"]
