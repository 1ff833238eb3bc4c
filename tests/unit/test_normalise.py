"""Normalisation: equal to neologdn where it has to be, and what it keeps besides."""

from __future__ import annotations

import bz2
import itertools
import re
import unicodedata
from typing import TYPE_CHECKING

import neologdn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config.recipe import Normalise
from kit.corpus.normalise.normaliser import Normaliser
from kit.corpus.normalise.preserve import SPACED_SCRIPTS
from tests.dump import DUMP, needs_dump

if TYPE_CHECKING:
    from pathlib import Path

NAMES = list(Normalise.model_fields)


def only(*names: str) -> Normalise:
    """Some options on, all others off."""
    assert set(names) <= set(NAMES)
    return Normalise.model_validate({name: name in names for name in NAMES})


NONE = only()
ALL_OPTIONS = [NONE, Normalise()]
ALL_OPTIONS += [only(name) for name in NAMES]
ALL_OPTIONS += [only(*(other for other in NAMES if other != name)) for name in NAMES]
ARTICLE, BARE, USUAL = (
    Normaliser("article", NONE),
    Normaliser("default", NONE),
    Normaliser("default", Normalise()),
)
TILDES, HYPHENS, VOWELS, WHITE = "~∼∾〜〰～", "-˗֊‐‑‒–⁃⁻₋−", "—―─━ー﹣－ｰ", " \u3000\t\xa0"
FULL_WIDTH = "".join(map(chr, range(0xFF00, 0xFFF0)))
OTHERS = "゛゜ﾞﾟ¥‘’“”かはうカハウキガンー日a0*é🗾\0\ufeff\u3099\u309a\u0301▁\x01〓"
INTERESTING = sorted({*TILDES, *HYPHENS, *VOWELS, *WHITE, *FULL_WIDTH, *OTHERS})
FEW_OF_EACH = "~〜 \u3000\t-‐－ーａＡ*＊カｶﾊﾞ゜あ日a0é。、\ufeff"
PIECES = st.one_of(
    st.sampled_from(INTERESTING),
    st.sampled_from(FEW_OF_EACH),
    st.sampled_from("  ~〜東京月年5５つかя한\u0301（）()「」『』%①"),
    st.sampled_from(("http://", "ftp://a/", "/~x", "1995", "ロンドン", "ﾊﾟﾘ", "すご", "ラー")),
    st.characters(codec="utf-8", exclude_characters="\n"),
)
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(neologdn, "VERSION", (0, 5, 7))  # neologdn does every line of another version
    LINE_BY_LINE = [Normaliser("default", options) for options in ALL_OPTIONS]
LINES = st.lists(st.lists(PIECES, max_size=16).map("".join), max_size=12)
MARKS = "▁␤\u2063"
# Too few lines go to neologdn one by one: with this one behind them they do not.
LONG = "霧" * 1000


def lines_of(normaliser: Normaliser, lines: list[str]) -> list[str]:
    *normalised, last = normaliser.lines([*lines, LONG])[0]
    assert last == LONG
    return normalised


def one(line: str, normaliser: Normaliser = USUAL) -> str:
    (normalised,) = lines_of(normaliser, [line])
    assert normaliser.lines([line])[0] == [normalised]
    return normalised


def by_neologdn(line: str, *, default: bool = False) -> str:
    text = neologdn.normalize((re.sub(r"\s", " ", line) if default else line).rstrip())
    if set(text) & set(MARKS):
        text = text.replace("▁", "_").replace("␤", " ").replace("\u2063", "").strip()
    return str(text)


def assert_equal_to_neologdn(lines: list[str]) -> None:
    assert lines_of(ARTICLE, lines) == [by_neologdn(line) for line in lines]
    assert lines_of(BARE, lines) == [by_neologdn(line, default=True) for line in lines]


@pytest.mark.parametrize(
    "surroundings",
    ["{}", "{}あ", "あ{}あ", "a{}a", "0 {}", "{} 0", "ー{} ー", "-{}-", "カ{}", "* {} 日"],
)
def test_each_character_of_the_basic_plane_becomes_what_neologdn_makes_of_it(
    surroundings: str,
) -> None:
    lines = [
        surroundings.format(chr(code))
        for code in range(0x10000)
        if code != ord("\n") and not 0xD800 <= code < 0xE000
    ]
    assert lines_of(ARTICLE, lines) == list(map(by_neologdn, lines))


def test_each_character_beyond_it_becomes_what_neologdn_makes_of_it() -> None:
    codes = range(0x10000, 0x110000)
    chunks = ["".join(map(chr, codes[start : start + 512])) for start in range(0, len(codes), 512)]
    lines = [f"{' a'.join(chunk)}日{' -'.join(chunk)}" for chunk in chunks]
    assert lines_of(ARTICLE, lines) == list(map(by_neologdn, lines))


@pytest.mark.parametrize("surroundings", ["{}{}", "a{} {}a", "日{}〜{}"])
def test_pairs_become_what_neologdn_makes_of_them(surroundings: str) -> None:
    assert_equal_to_neologdn(
        [surroundings.format(*pair) for pair in itertools.product(INTERESTING, repeat=2)]
    )


def test_triples_become_what_neologdn_makes_of_them() -> None:
    assert_equal_to_neologdn(list(map("".join, itertools.product(FEW_OF_EACH, repeat=3))))


@settings(max_examples=150, deadline=None)
@given(LINES)
def test_lines_become_what_neologdn_makes_of_them(lines: list[str]) -> None:
    assert_equal_to_neologdn(lines)


def test_the_demo_becomes_what_neologdn_makes_of_it(root: Path) -> None:
    assert_equal_to_neologdn(
        (root / "configs/demo/web.txt").read_text(encoding="utf-8").split("\n")
    )


@needs_dump
def test_a_real_dump_becomes_what_neologdn_makes_of_it() -> None:
    with bz2.open(DUMP, "rt", encoding="utf-8", newline="\n") as stream:
        assert_equal_to_neologdn([line.rstrip("\n") for line in stream.readlines(1_500_000)])


def test_with_another_neologdn_every_line_goes_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neologdn, "VERSION", (0, 5, 7))
    monkeypatch.setattr(neologdn, "normalize", lambda line: f"new {line}")
    for mode in ("article", "default"):
        lines = Normaliser(mode, Normalise()).lines(["あ", "い", LONG])[0]
        assert lines == ["new あ", "new い", f"new {LONG}"]


@settings(max_examples=40, deadline=None)
@given(LINES)
def test_many_lines_at_once_are_as_each_through_neologdn_whatever_is_kept(lines: list[str]) -> None:
    for options, slow in zip(ALL_OPTIONS, LINE_BY_LINE, strict=True):
        assert lines_of(Normaliser("default", options), lines) == slow.lines(lines)[0], options


@settings(max_examples=80, deadline=None)
@given(LINES)
def test_normalising_twice_is_normalising_once(lines: list[str]) -> None:
    # neologdn drops one byte order mark at the head of a line; a mark of line ends becomes a space.
    lines = [re.sub("[\ufeff␤]", "", line) for line in lines]
    for normaliser in (BARE, USUAL):
        once = lines_of(normaliser, lines)
        assert lines_of(normaliser, once) == once
    # neologdn drops a tilde that kept other white space from the end of the line.
    once = lines_of(ARTICLE, [re.sub(r"[^\S \u3000]", "", line) for line in lines])
    assert lines_of(ARTICLE, once) == once


@pytest.mark.parametrize(
    ("line", "once"),
    [
        (")~\t東", ")〜東"), ("a~ 東", "a〜東"), ("東 ~a", "東〜a"), ("A~ B", "A~ B"), ("A ~ B", "A〜B"),
        ("Ａ\u0301", "Á"), ("Ａ\u0301~ab", "Á〜ab"), ("ﾊ－ﾊ~b", "ハーハ〜b"),
    ],
)  # fmt: skip
def test_spaces_widths_and_marks_are_settled_before_a_tilde_is_judged(line: str, once: str) -> None:
    assert lines_of(USUAL, [line]) == [once]
    assert lines_of(USUAL, [once]) == [once]


def test_marks_of_a_shard_are_replaced_and_counted() -> None:
    for mode in (ARTICLE, USUAL):
        for rest in ([], [LONG]):
            assert mode.lines(["▁a␤b▁", "␤", "日\u2063本", *rest]) == (
                ["_a b_", "", "日本", *rest],
                5,
            )


def test_a_line_that_holds_a_line_feed_stays_one_line() -> None:
    assert one("日本\n語", ARTICLE) == neologdn.normalize("日本\n語")
    assert one("big\nblue") == "big blue"


def test_every_white_space_is_a_plain_one_by_default() -> None:
    for white in map(chr, range(0x10000)):
        if white.isspace():
            line = f"{white}a{white}{white}b{white}日{white}本{white}"
            assert one(line) == "a b 日 本"
            assert one(line, BARE) == "a b日本"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("1995〜2001年", "1995〜2001年"),
        ("１９９５～２００１年", "1995〜2001年"),
        ("3月〜5月", "3月〜5月"),
        ("東京〜大阪間", "東京〜大阪間"),
        ("東京 〜 大阪", "東京〜大阪"),
        ("10時～17時", "10時〜17時"),
        ("10時 ～ 17時", "10時〜17時"),
        ("10~20", "10〜20"),
        ("10 ~ 20", "10〜20"),
        ("10∼20%", "10〜20%"),
        ("(1867年〜)", "(1867年〜)"),
        ("（1867年～ ）と", "(1867年〜)と"),
        ("(〜1867年)", "(〜1867年)"),
        ("500円〜です", "500円〜です"),
        ("3つ〜5つ", "3つ〜5つ"),
        ("二〇〇一年〜", "二〇〇一年〜"),
        ("平成元年〜", "平成元年〜"),
        ("ロンドン〜パリ", "ロンドン〜パリ"),
        ("ﾛﾝﾄﾞﾝ〜ﾊﾟﾘ", "ロンドン〜パリ"),
        ("メーカー〜ユーザー", "メーカー〜ユーザー"),
        ("東京（羽田）〜大阪（伊丹）", "東京(羽田)〜大阪(伊丹)"),
        ("「序」〜「結」", "「序」〜「結」"),
        ("A〜Z", "A〜Z"),
        ("①〜⑤", "①〜⑤"),
        ("〓1〜2\x01", "〓1〜2\x01"),
        ("a 〓 1〜2 〓 b \x01 c", "a〓1〜2〓b \x01 c"),
        ("すご〜い", "すごい"),
        ("すご〜〜〜い", "すごい"),
        ("〜〜〜", ""),
        ("1〜〜2", "12"),
        ("1〰2", "12"),
        ("え〜5人も", "え5人も"),
        ("うお゛〜5", "うおﾞ5"),
        ("ラ〜メン", "ラメン"),
        ("スゴ〜イ", "スゴイ"),
        ("秘密 〜謎", "秘密謎"),
        ("〜秘密〜", "秘密"),
        ("そう〜「はい」", "そう「はい」"),
        ("http://a.jp/1~2", "http://a.jp/12"),
    ],
)  # fmt: skip
def test_the_tilde_of_a_range_is_kept_and_no_other(line: str, kept: str) -> None:
    assert one(line, Normaliser("default", only("keep_ranges"))) == kept
    assert "〜" not in one(line, BARE)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("http://www.example.jp/~taro/を見る", "http://www.example.jp/~taro/を見る"),
        ("(https://a.jp/~b/~c )", "(https://a.jp/~b/~c )"),
        ("ftp://a.jp/~b と ~c", "ftp://a.jp/~bとc"),
        ("http://a.jp/x~、次", "http://a.jp/x、次"),
        ("http://a.jp/~~b", "http://a.jp/~b"),
        ("http://a.jp/\x01~b〓", "http://a.jp/\x01b〓"),
        ("httpd~x //a/~b", "httpdx //a/b"),
        ("10~20", "1020"),
    ],
)
def test_the_tildes_within_a_url_are_kept_and_no_others(line: str, kept: str) -> None:
    assert one(line, Normaliser("default", only("keep_url_tildes"))) == kept
    assert "~" not in one(line, BARE)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("café au lait", "café au lait"),
        ("cafe\u0301 au lait", "cafe\u0301 au lait"),
        ("crème\u3000 brûlée", "crème brûlée"),
        ("Привет  мир", "Привет мир"),
        ("Αθήνα και Σπάρτη", "Αθήνα και Σπάρτη"),
        ("한국 사람 입니다", "한국 사람 입니다"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("é ~。é ~ (é)", "é。é (é)"),
        ("café 東京 café", "café東京café"),
        ("café （x）", "café (x)"),
        ("東京 都 café。", "東京都café。"),
        ("葛\U000e0100 飾", "葛\U000e0100飾"),
        ("ｶﾌｪ ｵﾚ", "カフェオレ"),
    ],
)
def test_spaces_behind_letters_of_other_scripts_are_kept(line: str, kept: str) -> None:
    assert one(line, Normaliser("default", only("keep_accent_spaces"))) == kept


@settings(max_examples=80, deadline=None)
@given(LINES)
def test_letters_of_other_scripts_are_treated_as_neologdn_treats_an_a(lines: list[str]) -> None:
    letters = {
        code: "A" for start, end in SPACED_SCRIPTS if end < 0x3000 for code in range(start, end)
    }
    lines = [re.sub("[\u3130-\uffef\U00010000-\U0010ffff]", "日", line) for line in lines]
    kept = lines_of(Normaliser("default", only("keep_accent_spaces")), lines)
    assert [line.translate(letters) for line in kept] == lines_of(
        BARE, [line.translate(letters) for line in lines]
    )


# What an option keeps, and what neologdn makes of it; the examples of docs/corpus.md are among them.
KEPT = [
    ("keep_tildes", "すご〜い", "すご〜い", "すごい"),
    ("keep_tildes", "愛～永遠に～", "愛〜永遠に〜", "愛永遠に"),
    ("keep_tildes", "ls ~/bin", "ls ~/bin", "ls /bin"),
    ("keep_tildes", "はい~", "はい〜", "はい"),
    ("keep_tildes", "〜〜〜", "〜〜〜", ""),
    ("keep_tildes", "a ∼ 'b'", "a ∼ 'b'", "a 'b'"),
    ("keep_tildes", "すご〰い", "すご〰い", "すごい"),
    ("keep_tildes", "http://a.jp/1~~2", "http://a.jp/1~~2", "http://a.jp/12"),
    ("keep_spaces", "甲太郎　乙次郎", "甲太郎 乙次郎", "甲太郎乙次郎"),
    ("keep_spaces", "第一章　はじめに", "第一章 はじめに", "第一章はじめに"),
    ("keep_spaces", "１　はじめに", "1 はじめに", "1はじめに"),
    ("keep_spaces", "東京 \u3000 大阪\t京都", "東京 大阪 京都", "東京大阪京都"),
    ("keep_spaces", "　段落。　次 （注） 終", "段落。次(注)終", "段落。次(注)終"),
    ("keep_dashes", "彼は――そう", "彼は――そう", "彼はーそう"),
    ("keep_dashes", "「──」", "「──」", "「ー」"),
    ("keep_dashes", "1914–18", "1914–18", "1914-18"),
    ("keep_dashes", "wait — what", "wait — what", "wait ーwhat"),
    ("keep_dashes", "A━B—", "A━B—", "AーBー"),
    ("keep_minus", "－５℃", "-5℃", "ー5℃"),
    ("keep_minus", "０９０－１２３４", "090-1234", "090ー1234"),
    ("keep_minus", "東京－大阪", "東京-大阪", "東京ー大阪"),
    ("keep_minus", "ロンドン－パリ", "ロンドン-パリ", "ロンドンーパリ"),
    ("keep_minus", "センタ－とｻ－ﾋﾞｽ", "センターとサービス", "センターとサービス"),
    ("keep_minus", "ボ－イング－７４７", "ボーイング-747", "ボーイングー747"),
    ("keep_minus", "カ－－", "カー", "カー"),
    ("keep_minus", "ｶﾞ－ﾄﾞ", "ガード", "ガード"),
    ("keep_minus", "10⁻³とx₋₁", "10⁻³とx₋₁", "10-³とx-₁"),
    ("keep_minus", "−5", "-5", "-5"),
    ("keep_quotes", "“何？”と‘引用’", "“何?”と‘引用’", '"何?"と`引用\''),
    ("keep_quotes", "say “hello” to", "say “hello” to", 'say "hello" to'),
    ("keep_yen", "¥1000", "¥1000", "\\1000"),
    ("compose", "か\u3099んは\u3099れ", "がんばれ", "か\u3099んは\u3099れ"),
    ("compose", "ﾊ\u309aン", "パン", "ハ\u309aン"),
    ("compose", "cafe\u0301", "café", "cafe\u0301"),
    ("compose", "神\u0301神", "神\u0301神", "神\u0301神"),
    ("compose", "\u3099か " + "\u3099" * 9, "\u3099か" + "\u3099" * 9, "\u3099か" + "\u3099" * 9),
]


@pytest.mark.parametrize(("name", "line", "kept", "destroyed"), KEPT)
def test_an_option_keeps_what_neologdn_destroys(
    name: str, line: str, kept: str, destroyed: str
) -> None:
    assert one(line, Normaliser("default", only(name))) == kept
    assert one(line, BARE) == destroyed
    assert one(kept, Normaliser("default", only(name))) == kept


def test_with_all_options_the_signs_of_a_text_mean_what_they_did() -> None:
    line = "気温は－５℃、電話は０９０－１２３４－５６７８、郵便は〒１００－０００１。"
    assert one(line) == "気温は-5℃、電話は090-1234-5678、郵便は〒100-0001。"
    line = "値段は¥1000と‘引用’である。彼は——そう言った。"
    assert one(line) == line


# Written otherwise than before or by NFKC, with the same meaning in running text.
SAME_MEANING = dict.fromkeys("˗֊‐‑‒⁃−", "-") | dict.fromkeys("~∼∾～〰", "〜") | {"゛": "ﾞ", "゜": "ﾟ"}
SAME_MEANING |= {" ": "", "\u3000": ""}  # beside punctuation
SAME_MEANING |= {"▁": "_", "␤": " ", "\u2063": ""}  # the marks of a shard


@pytest.mark.parametrize("before", ["日", "a", "カ", "ー", "1"])
def test_each_character_stays_or_becomes_what_nfkc_makes_of_it(before: str) -> None:
    characters = [
        character
        for character in map(chr, (*range(0xD800), *range(0xE000, 0x10000)))
        if not character.isspace() or character in SAME_MEANING
    ]
    lines = lines_of(USUAL, [f"{before}{character}、" for character in characters])
    for character, line in zip(characters, lines, strict=True):
        if line == f"{before}{character}、":
            continue
        meant = {character, unicodedata.normalize("NFKC", character)}
        meant.add(SAME_MEANING.get(character, character))
        if (before == "カ" and character in "－﹣") or (before == "ー" and character in "ーｰ"):
            meant = {"ー", ""}  # of カ－ド; and of a run of ー one stays
        elif before == "カ" and character in "゛ﾞ":
            meant = {"\u3099"}
        texts = [unicodedata.normalize("NFC", f"{before}{text}、") for text in meant]
        assert line in texts, character


def test_each_character_beyond_the_basic_plane_stays() -> None:
    codes = range(0x10000, 0x110000)
    chunks = [codes[start : start + 512] for start in range(0, len(codes), 512)]
    lines = ["日".join(map(chr, chunk)) for chunk in chunks]
    assert lines_of(USUAL, lines) == lines


def test_of_a_pair_each_stays_what_it_is_alone() -> None:
    """But for runs of ー and of hyphens, of which one stays, and what a voicing mark joins."""
    signs = [c for c in INTERESTING if c not in "゛゜ﾞﾟ\u3099\u309a\u0301\ufeff▁ \u3000\t\xa0"]
    alone = dict(zip(signs, lines_of(USUAL, [f"日{sign}、" for sign in signs]), strict=True))
    pairs = [
        pair for pair in itertools.product(signs, repeat=2) if set(pair).isdisjoint("~∼∾〜〰～－﹣")
    ]
    found = lines_of(USUAL, [f"日{one}{other}、" for one, other in pairs])
    for (first, second), line in zip(pairs, found, strict=True):
        one, other = (alone[sign].removeprefix("日").removesuffix("、") for sign in (first, second))
        run = one == other and one in "-ー"
        assert line in (f"日{one}{other}、", f"日{one}、" if run else None), (first, second)


def test_the_table_of_the_docs_is_true(root: Path) -> None:
    page = (root / "docs/corpus.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    rows = [row for row in rows if row[0] in NAMES]
    assert sorted(name for name, *_ in rows) == sorted(NAMES)
    for name, *cells in rows:
        if name == "compose":  # words stand there for what looks the same
            continue
        line, kept, destroyed = (re.sub(r"\\(.)", r"\1", cell) for cell in cells)
        assert one(line, Normaliser("default", only(name))) == kept
        assert one(line, BARE) == destroyed
