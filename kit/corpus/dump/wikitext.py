"""What wikiextractor leaves of wikitext, cleaned: entities, tags, magic words, emptied parentheses.

clean("'''駅伝'''（&lt;br&gt;、英: ）は…")  # ["駅伝は…"]

Ordinary text is never taken for markup: a tag is one that MediaWiki knows, `main()` keeps its
parentheses, and 読点（、） keeps its mark. Every rule looks at a line once or a few times, so the time
is in proportion to the text, whatever stands in it.
"""

from __future__ import annotations

import html
import re
from html.entities import html5
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Of no use in text, and not to be written: C0 but for tab and line feed, DEL, C1, surrogates, and
# the two last code points of the plane.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# With its semicolon: html.unescape alone would make "©=2" of the "&copy=2" of an address.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|([A-Za-z][A-Za-z0-9]{1,31}));")
_LEVELS = 3  # wikiextractor escapes once more; &amp;lt; is an article's own mistake
# https://www.mediawiki.org/wiki/Help:HTML_in_wikitext, and Wikipedia's extension tags
_TAGS = (
    "abbr|b|bdi|bdo|big|blockquote|br|caption|center|cite|code|col|colgroup|data|dd|del|dfn|div|dl|dt|em|"
    "font|h1|h2|h3|h4|h5|h6|hr|i|img|ins|kbd|li|link|mark|meta|ol|p|pre|q|rb|rp|rt|rtc|ruby|s|samp|small|"
    "span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|time|tr|tt|u|ul|var|wbr|"
    "categorytree|ce|charinsert|chem|gallery|graph|hiero|imagemap|includeonly|indicator|inputbox|"
    "mapframe|maplink|math|noinclude|nobr|nowiki|onlyinclude|poem|ref|references|score|section|source|"
    "syntaxhighlight|templatedata|templatestyles|timeline"
)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_NO_TEXT = re.compile(
    r"\s*(?:File|Image|Media|Category|ファイル|画像|メディア|カテゴリ)\s*:", re.IGNORECASE
)
# https://www.mediawiki.org/wiki/Help:Magic_words, and the names that MediaWiki's Japanese has
_SWITCHES = (
    "NOTOC|FORCETOC|TOC|NOEDITSECTION|NEWSECTIONLINK|NONEWSECTIONLINK|NOGALLERY|HIDDENCAT|"
    "EXPECTUNUSEDCATEGORY|EXPECTUNUSEDTEMPLATE|NOCONTENTCONVERT|NOCC|NOTITLECONVERT|NOTC|INDEX|NOINDEX|"
    "STATICREDIRECT|DISAMBIG|NOGLOBAL|NOHEADER|ARCHIVEDTALK|NOTALK|EXPECTWITHOUTSCANS|"
    "目次|目次強制|目次非表示|節編集非表示|セクション編集非表示|ギャラリー非表示|見出し非表示|"
    "タイトル変換無効|タイトルコンバート拒否|タイトル非表示|内容変換無効|内容変換抑制|"
    "新しい節リンク|新しい節リンク非表示|カテゴリ非表示|インデックス|インデックス拒否"
)
_SWITCH = re.compile(rf"__(?:{_SWITCHES})__|＿＿(?:{_SWITCHES})＿＿")
_SETTING = re.compile(  # a whole line that sets a key or a title, or files the page
    r"(?:DEFAULTSORT|DEFAULTSORTKEY|DISPLAYTITLE|デフォルトソート"
    r"|\[\[(?:Category|カテゴリ|File|Image|ファイル|画像))\s*[:：].*",
    re.IGNORECASE,
)
_TABLE = re.compile(r"\{\|.*|\|\}.*|[|!].*\b(?:style|class|colspan|rowspan|align|scope)\s*=.*")
_PARENTHESIS = re.compile("[（(）)]")
_BEFORE = 20  # characters that are looked at before a pair
_DEPTH = 16  # of parentheses in one another; deeper ones are left as they are
_SEPARATOR = re.compile(r"([、，；,]|;(?=\s))")
_ONLY_SEPARATORS = re.compile(r"[\s、，；：,;:]*")
_NOTHING = " \N{NO-BREAK SPACE}　-–—/・"  # what joins two emptied templates
_LABEL = re.compile(r"[^\s:：]{1,8}\s*[:：]")  # of 「（英: ）」: a language, and nothing in it
_SPACES = re.compile(" {2,}")
# Words behind which a mark in parentheses, or a pair of them, is what is spoken of; and a call.
_MARKS = re.compile(r"(?:点|コンマ|カンマ|コロン|マーク|記号|符号|演算子|文字|区切り)[」』]?$")
_BRACKETS = re.compile(r"(?:括弧|かっこ|カッコ|パーレン)[」』]?[（(]?$")
_CALL = re.compile(r"[A-Za-z0-9_>\]]$")


def clean(text: str) -> list[str]:
    """The lines of an extracted article without remains of markup, and without empty lines."""
    lines = (_line(line) for line in without_controls(_unescape(text)).split("\n"))
    return [line for line in lines if line]


def without_controls(text: str) -> str:
    """The text without surrogates and without control characters other than tab and line feed."""
    return _CONTROL.sub("", text)


def _unescape(text: str) -> str:
    for _ in range(_LEVELS):
        if "&" not in text:
            break
        text = _ENTITY.sub(_character, text)
    return text


def _character(entity: re.Match[str]) -> str:
    name = entity[1]
    return entity[0] if name and f"{name};" not in html5 else html.unescape(entity[0])


def _line(line: str) -> str:
    if "<" in line:
        line = _TAG.sub("", _without_comments(line))
    if "{{" in line:
        line = _inside_out(_TEMPLATE, "", line)
    if "[[" in line:
        line = _inside_out(_LINK, _label, line)
    if "__" in line or "＿＿" in line:
        line = _SWITCH.sub("", line)
    line = line.strip()
    if _SETTING.fullmatch(line) or _TABLE.fullmatch(line):
        return ""
    if "(" in line or "（" in line:
        line = _parentheses(line)
    return line


def _without_comments(line: str) -> str:
    """The line without whole comments; a mark without its partner is text."""
    kept, at = [], 0
    while (start := line.find("<!--", at)) >= 0 and (end := line.find("-->", start + 4)) >= 0:
        kept.append(line[at:start])
        at = end + 3
    return "".join([*kept, line[at:]])


def _label(link: re.Match[str]) -> str:
    return "" if _NO_TEXT.match(link[1]) else link[1].rpartition("|")[2]


def _inside_out(
    pattern: re.Pattern[str], by: str | Callable[[re.Match[str]], str], line: str
) -> str:
    """Replace what is innermost, a few times; what is nested deeper stays."""
    for _ in range(4):
        line, number = pattern.subn(by, line)
        if not number:
            break
    return line


def _parentheses(line: str) -> str:
    """The line without emptied parentheses, and without the emptied places within others."""
    open_: list[list[str]] = [[]]  # what is read, and for each open parenthesis what is in it
    deeper = at = 0
    for mark in _PARENTHESIS.finditer(line):
        open_[-1].append(line[at : mark.start()])
        at = mark.end()
        if mark[0] in "（(":
            if len(open_) <= _DEPTH:
                open_.append([mark[0]])
                continue
            deeper += 1
        elif deeper:
            deeper -= 1
        elif len(open_) > 1:
            opening, *inside = open_.pop()
            near = [part for parts in open_[-2:] for part in parts[-2:]]
            before = "".join(near)[-_BEFORE:]
            open_[-1].append(_pair(before, opening, "".join(inside), mark[0]))
            continue
        open_[-1].append(mark[0])
    open_[-1].append(line[at:])
    left = "".join(part for parts in open_ for part in parts)
    return left if left == line else _SPACES.sub(" ", left).strip()


def _pair(before: str, opening: str, inside: str, closing: str) -> str:
    """What is left of a pair of parentheses and what is in it, behind the text `before`."""
    whole = f"{opening}{inside}{closing}"
    if opening + closing not in {"（）", "()"}:
        return whole
    marks = inside.strip()
    if len(marks) < 2 and (_BRACKETS, _MARKS)[len(marks)].search(before):
        return whole
    if not marks and opening == "(" and _CALL.search(before):
        return whole
    if _ONLY_SEPARATORS.fullmatch(marks):
        return ""
    if opening == "(" and inside.isascii():
        return whole  # an emoticon, a call, a tuple: no language template has left it
    first, *rest = _SEPARATOR.split(inside)
    places = [("", first), *zip(rest[::2], rest[1::2], strict=True)]
    nothing = _NOTHING if len(places) > 1 else " "
    kept = [place for place in places if not _is_emptied(place[1].strip(nothing))]
    if len(kept) == len(places):
        return whole
    left = "".join(mark + text for mark, text in kept)[len(kept[0][0]) :].strip() if kept else ""
    return f"{opening}{left}{closing}" if left else ""


def _is_emptied(text: str) -> bool:
    return not text or _LABEL.fullmatch(text) is not None
