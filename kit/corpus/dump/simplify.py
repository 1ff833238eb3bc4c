"""Wikitext before wikiextractor: text that it would drop or alter is replaced or marked.

Notes and comments go; templates become their text (templates.py); headings, list items, programs and
formulas are marked (marks.py), so that `article` can keep them or leave them out whole. Every rule passes
over the text once, so the time is proportional to its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

from kit.corpus.dump import marks
from kit.corpus.dump.languages import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.config.wikipedia import Wikipedia
    from kit.corpus.dump.tally import Tally
    from kit.corpus.dump.templates import PageFacts, Templates

_NO_TEXT = (
    "ref|references|gallery|timeline|score|imagemap|graph|mapframe|maplink|inputbox|categorytree|"
    "templatedata|templatestyles|indicator|hiero"
)
_ELEMENT = re.compile(
    rf"<!--|-->|<(/?)({_NO_TEXT}|math|nowiki|syntaxhighlight|source)\b([^<>]*)>", re.IGNORECASE
)
_CODE = ("syntaxhighlight", "source")
_INLINE = re.compile(r"\binline\b", re.IGNORECASE)
# Tags that wikiextractor would drop with their text, or replace by a placeholder.
_KEPT = re.compile(r"</?(?:small|code|samp|ul|ol|dl)\b[^<>]*>|</(?:li|dt|dd)\s*>", re.IGNORECASE)
_ITEM_TAG = re.compile(r"<(?:li|dt|dd)\b[^<>]*>", re.IGNORECASE)
_RUBY_PARENTHESIS = re.compile(r"<rp\b[^<>]*>[^<>]*</rp\s*>", re.IGNORECASE)
_RUBY_TEXT = re.compile(r"<rt\b[^<>]*>([^<>]*)(?:</rt\s*>|(?=</ruby))", re.IGNORECASE)
_SCRIPT = re.compile(r"<su([bp])\b[^<>]*>([^<>{}\[\]|\n]{0,80})</su\1\s*>", re.IGNORECASE)
_INLINE_CODE = re.compile(r"<(code|samp)\b[^<>]*>([^<>\n]*)</\1\s*>", re.IGNORECASE)
_PLAIN_LINK = re.compile(r"\[\[(?:[^\[\]|:\n]+\|([^\[\]|\n]+)|([^\[\]|:\n]+))\]\]")
# https://www.mediawiki.org/wiki/Help:Links: any other target with a colon is a page that the reader saw.
_LINK = re.compile(r"\[\[(:?)([^\[\]|:\n]*):([^\[\]|\n]*)(?:\|([^\[\]\n]*))?\]\]")
_NOT_SHOWN = LANGUAGES.keys() | {
    "file", "image", "media", "category", "ファイル", "画像", "メディア", "カテゴリ",
    "simple", "zh-yue", "zh-min-nan", "zh-classical", "be-x-old", "ceb", "war", "min", "lmo", "ht",
    "io", "ia", "vo", "new", "azb",
}  # fmt: skip
_REDIRECT = re.compile(r"\s*#(?:redirect|転送|リダイレクト)\s*[:：]?\s*\[\[", re.IGNORECASE)
_DOUBLED = re.compile(rf"([。、，．]){marks.NOTE}+\1")  # a note between two full stops
_QUOTES = re.compile(r"'''''|'''|''")
_HEADING = re.compile(r"^(={1,6})[ \t]*([^\n]+?)[ \t]*\1[ \t]*$", re.MULTILINE)
_ITEM = re.compile(r"^[*#:;]*[*#;][*#:;]*[ \t]*", re.MULTILINE)
_TERM = re.compile(r"^([*#:;]*;)([^\n\[]*?)(?:[ \t]+:[ \t]*|:[ \t]+)", re.MULTILINE)


def simplify(
    text: str, templates: Templates, page: PageFacts, section: Wikipedia, tally: Tally
) -> str:
    """The wikitext of an article, for wikiextractor, without the sections to leave out."""
    if _REDIRECT.match(text):
        return ""
    text = marks.CONTROLS.sub("", text)
    if "&#" in text:
        text = marks.CONTROL_ENTITIES.sub("", text)
    text = "".join(_elements(text, section.formulas))
    text = text.replace("&lt;", marks.LITERAL["<"]).replace("&gt;", marks.LITERAL[">"])
    text = templates.expand(text, page)
    if "<" in text:
        text = _tags(text)
    if marks.NOTE in text:
        text = _DOUBLED.sub(r"\1", text).replace(marks.NOTE, "")
    # What is left of each link: `sub` would build a replacement for each by calls.
    text = "".join(filter(None, _PLAIN_LINK.split(text)))
    text = _LINK.sub(_link, text)
    text = _QUOTES.sub("", text)
    text = _HEADING.sub(lambda m: f"{marks.HEADING}{len(m[1])}{m[2]}", text)
    text = "".join(_kept_sections(text, frozenset(section.leave_out_sections), tally))
    text = _TERM.sub(rf"\1\2\n{marks.ITEM}", text)
    return _ITEM.sub(marks.ITEM, text)


def _kept_sections(text: str, left_out: frozenset[str], tally: Tally) -> Iterator[str]:
    """Yield the sections of a text without those of these headings, and without all below them."""
    skipping = 0  # the level of the section to leave out
    for number, part in enumerate(text.split(marks.HEADING)):
        level = int(part[0]) if number else 0
        if skipping and level > skipping:
            continue
        title = part[1:].partition("\n")[0]
        skipping = level if number and title in left_out else 0
        tally.counts["sections left out"] += bool(skipping)
        if not skipping:
            yield f"{marks.HEADING}{part}" if number else part


def _elements(text: str, formulas: str) -> Iterator[str]:
    """Yield the text with comments, notes, formulas and programs replaced; an open element stays."""
    tags = list(_ELEMENT.finditer(text))
    closing: dict[str, list[re.Match[str]]] = defaultdict(list)  # by name, the last first
    for tag in reversed(tags):
        if tag[0] == "-->" or tag[1]:
            closing[_name(tag)].append(tag)
    position = 0
    for tag in tags:
        if tag.start() < position or tag[0] == "-->" or tag[1]:
            continue
        name = _name(tag)
        if name != "comment" and tag[3].endswith("/"):
            yield text[position : tag.start()] + marks.NOTE
            position = tag.end()
            continue
        later = closing[name]
        while later and later[-1].start() < tag.end():
            later.pop()
        if later:
            yield text[position : tag.start()]
            yield _element(name, tag[3] or "", text[tag.end() : later[-1].start()], formulas)
            position = later[-1].end()
    yield text[position:]


def _name(tag: re.Match[str]) -> str:
    return tag[2].lower() if tag[2] else "comment"


def _element(name: str, attributes: str, content: str, formulas: str) -> str:
    if name == "math":
        if formulas == "tex":
            return f"${' '.join(content.split()).translate(marks.AS_MARKS_IN_CODE)}$"
        return marks.FORMULA
    if name == "nowiki":
        return content.translate(marks.AS_MARKS)
    if name not in _CODE:
        return "" if name == "comment" else marks.NOTE
    code = content.translate(marks.AS_MARKS_IN_CODE)
    if _INLINE.search(attributes):
        return code
    lines = (f"{marks.CODE}{line}" for line in code.split("\n") if line.strip())
    return "\n".join(["", *lines, ""])


def _link(link: re.Match[str]) -> str:
    """The label of a link to a page of another kind or wiki; the title, if it has none."""
    colon, prefix, title, label = link.groups()
    kind = prefix.strip().lower()
    if label and (colon or kind not in _NOT_SHOWN):
        return label
    is_shown = bool(colon) or kind not in _NOT_SHOWN
    return f"{prefix}:{title}" if is_shown and prefix else link[0]


def _tags(text: str) -> str:
    text = _INLINE_CODE.sub(lambda m: m[2].translate(_PARENTHESES), text)
    text = _KEPT.sub("", text)
    text = _ITEM_TAG.sub(f"\n{marks.ITEM}", text)
    text = _RUBY_TEXT.sub(r"（\1）", _RUBY_PARENTHESIS.sub("", text))
    return _SCRIPT.sub(_script, text)


def _script(tag: re.Match[str]) -> str:
    """A superscript or subscript in Unicode's characters, or else `10^1.5`, or the bare text of a word."""
    table = _scripts()[tag[1].lower()]
    content = tag[2].strip()
    if content and all(character in table for character in content) and not _WORD.search(content):
        return content.translate({ord(c): table[c] for c in content})
    if tag[1].lower() == "p" and _EXPONENT.fullmatch(content):
        return f"^{content}"
    return content


_WORD = re.compile(r"[A-Za-z]{2}")  # 1<sup>er</sup>, 20<sup>th</sup>: read as a word
_EXPONENT = re.compile(r"[-+−–]?\d[\d.,/]*")


def _scripts() -> dict[str, dict[str, str]]:
    """Superscripts and subscripts by their plain characters, from Unicode's decompositions."""
    if not _SCRIPTS:
        _SCRIPTS.update(
            {"p": _decomposed("<super>", "SUPERSCRIPT"), "b": _decomposed("<sub>", "SUBSCRIPT")}
        )
        for table in _SCRIPTS.values():
            table["-"] = table["–"] = table["－"] = table["\u2212"]
    return _SCRIPTS


_PARENTHESES = str.maketrans({mark: marks.LITERAL_IN_CODE[mark] for mark in "()"})
_SCRIPTS: dict[str, dict[str, str]] = {}


def _decomposed(kind: str, name: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for code in (
        *range(0xAA, 0x100),
        *range(0x2B0, 0x2E5),
        *range(0x1D2C, 0x1DC0),
        *range(0x2070, 0x20A0),
    ):
        how, *plain = unicodedata.decomposition(chr(code)).split() or [""]
        if how != kind or len(plain) != 1:
            continue
        if name in unicodedata.name(chr(code)) or "MODIFIER LETTER SMALL" in unicodedata.name(
            chr(code)
        ):
            table.setdefault(chr(int(plain[0], 16)), chr(code))
    return table
