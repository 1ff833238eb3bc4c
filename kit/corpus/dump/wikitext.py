"""Clean up after wikiextractor: entities, tags, magic words, emptied parentheses.

clean_line("'''駅伝'''（<br>、英: ）は…")  # "駅伝は…"

Ordinary text is never mistaken for markup: only tags that MediaWiki knows are removed, `main()` keeps its
parentheses, and 読点（、） keeps its mark. Every rule passes over a line once or a few times, so the time
is proportional to the length of any text.
"""

from __future__ import annotations

import html
import re
from html.entities import html5
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Useless in text or impossible to write: C0 except tab and line feed, DEL, C1, surrogates, and the two
# last code points of the plane.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Only with a semicolon: html.unescape alone would turn the "&copy=2" of a URL into "©=2".
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|([A-Za-z][A-Za-z0-9]{1,31}));")
_LEVELS = 3  # wikiextractor escapes once more; &amp;lt; is an author's mistake
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
# https://www.mediawiki.org/wiki/Help:Magic_words, and their names in MediaWiki's Japanese
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
_FIRST = frozenset("DdデＤ[{|!")  # characters with which such lines begin
_PARENTHESIS = re.compile("[（(）)]")
_CONTEXT = 20  # characters of context before a pair
_DEPTH = 16  # of nested parentheses; deeper ones are left unchanged
_SEPARATOR = re.compile(r"([、，；,]|;(?=\s))")
_ONLY_SEPARATORS = re.compile(r"[\s、，；：,;:]*")
_JOINERS = " \N{NO-BREAK SPACE}　-–—/・"  # between two emptied templates
_LABEL = re.compile(r"[^\s:：]{1,8}\s*[:：]")  # a language without its word, as in 「（英: ）」
# What every pair has in which an item is empty, or a label without its word.
_EMPTIED = re.compile(r"[（(、，；,;:：][\s\-–—/・]*[、，；,;:：)）]")
_SPACES = re.compile(" {2,}")
# After these words a mark in parentheses, or an empty pair, is the subject of the text; and a call.
_MARKS = re.compile(r"(?:点|コンマ|カンマ|コロン|マーク|記号|符号|演算子|文字|区切り)[」』]?$")
_BRACKETS = re.compile(r"(?:括弧|かっこ|カッコ|パーレン)[」』]?[（(]?$")
_CALL = re.compile(r"[A-Za-z0-9_>\]]$")


def without_controls(text: str) -> str:
    """The text without surrogates and control characters other than tab and line feed."""
    return _CONTROL.sub("", text)


def unescaped(text: str) -> str:
    """The text with its entities, up to three levels of them, as characters."""
    for _ in range(_LEVELS):
        if "&" not in text:
            break
        text = _ENTITY.sub(_character, text)
    return text


def _character(entity: re.Match[str]) -> str:
    name = entity[1]
    return entity[0] if name and f"{name};" not in html5 else html.unescape(entity[0])


def clean_line(line: str) -> str:
    """A line, its entities as characters, without remains of markup; may be empty."""
    if "<" in line:
        line = _TAG.sub("", _without_comments(line))
    if "{{" in line:
        line = _inside_out(_TEMPLATE, "", line)
    if "[[" in line:
        line = _inside_out(_LINK, _label, line)
    if "__" in line or "＿＿" in line:
        line = _SWITCH.sub("", line)
    line = line.strip()
    if line[:1] in _FIRST and (_SETTING.fullmatch(line) or _TABLE.fullmatch(line)):
        return ""
    if _EMPTIED.search(line):
        line = _parentheses(line)
    return line


def _without_comments(line: str) -> str:
    """The line without complete comments; a mark without its partner is text."""
    kept, begin = [], 0
    while (start := line.find("<!--", begin)) >= 0 and (end := line.find("-->", start + 4)) >= 0:
        kept.append(line[begin:start])
        begin = end + 3
    return "".join([*kept, line[begin:]])


def _label(link: re.Match[str]) -> str:
    return "" if _NO_TEXT.match(link[1]) else link[1].rpartition("|")[2]


def _inside_out(
    pattern: re.Pattern[str], by: str | Callable[[re.Match[str]], str], line: str
) -> str:
    """Replace the innermost matches, a few times; deeper nesting stays."""
    for _ in range(4):
        line, number = pattern.subn(by, line)
        if not number:
            break
    return line


def _parentheses(line: str) -> str:
    """The line without emptied parentheses, and without emptied items in others."""
    open_: list[list[str]] = [[]]  # the text outside, then that in each open parenthesis
    deeper = begin = 0
    for mark in _PARENTHESIS.finditer(line):
        open_[-1].append(line[begin : mark.start()])
        begin = mark.end()
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
            before = "".join(near)[-_CONTEXT:]
            open_[-1].append(_pair(before, opening, "".join(inside), mark[0]))
            continue
        open_[-1].append(mark[0])
    open_[-1].append(line[begin:])
    cleaned = "".join(part for parts in open_ for part in parts)
    return cleaned if cleaned == line else _SPACES.sub(" ", cleaned).strip()


def _pair(before: str, opening: str, inside: str, closing: str) -> str:
    """Clean a pair of parentheses and the text inside it; `before` is the text preceding it."""
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
        return whole  # an emoticon, a call, a tuple: not the remains of a language template
    first, *rest = _SEPARATOR.split(inside)
    items = [("", first), *zip(rest[::2], rest[1::2], strict=True)]
    nothing = _JOINERS if len(items) > 1 else " "
    kept = [item for item in items if not _is_emptied(item[1].strip(nothing))]
    if len(kept) == len(items):
        return whole
    text = "".join(mark + text for mark, text in kept)[len(kept[0][0]) :].strip() if kept else ""
    return f"{opening}{text}{closing}" if text else ""


def _is_emptied(text: str) -> bool:
    return not text or _LABEL.fullmatch(text) is not None
