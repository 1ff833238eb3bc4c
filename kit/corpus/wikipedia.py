"""Wikipedia: a multistream dump as ranges of bz2 streams, and their articles as documents.

A multistream dump is a sequence of bz2 streams: a header, then pages (100 a stream), then a closing tag.
A range of streams decompresses on its own (multistream.py). wikiextractor 3.1, run as a separate program
(extractor.py), turns wikitext into text. In mode default the wikitext is simplified before (simplify.py),
and lines are made of the text, without its remains (article.py, wikitext.py).
"""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from kit.config.wikipedia import Wikipedia
from kit.corpus.dump import continuous, extractor, wikitext
from kit.corpus.dump.article import Article
from kit.corpus.dump.multistream import Damage, stream_ranges, streams
from kit.corpus.dump.simplify import simplify
from kit.corpus.dump.tally import Tally
from kit.corpus.dump.templates import PageFacts, Templates
from kit.corpus.identity import Identified, Identity
from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kit.corpus.bad_input import BadInput
    from kit.corpus.dump.extractor import Page
    from kit.corpus.identity import Keys
    from kit.store.records import Piece

__all__ = ["PAGE", "documents", "stream_ranges"]

PAGE = 4 << 20  # bytes of XML; MediaWiki allows pages of 2 MiB, and &quot; takes six bytes for one
_HEADER = 1 << 20  # bytes of the header's text; a real one has 2 kB
_HEAD = 4096  # bytes kept of a page that is too large, for its title
_CLOSING = b"</mediawiki>"
_END = b"</page>"
_NAMESPACE = re.compile(rb'<namespace key="-?\d+"[^>]*>([^<>\n]+)</namespace>')
_BASE = re.compile(rb"<base>\s*(https?://[^<>\s]+/)[^<>\s/]*\s*</base>")
_ID = re.compile(rb"<id>\s*(\d+)\s*</id>")
_TITLE = re.compile(rb"<title>([^<>\n]+)</title>")
_NUMBER = re.compile(rb"<ns>\s*(-?\d+)\s*</ns>")
_TEXT = re.compile(rb"<text\b[^>]*>")
_TIMESTAMP = re.compile(rb"<timestamp>(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d:\d\d)Z</timestamp>")
# wikiextractor would replace these by the time of the run; MediaWiki ignores the case of the name.
_CURRENT_TIME = re.compile(rb"\{\{\s*CURRENT(YEAR|MONTH|DAY|HOUR|TIME)\s*\}\}", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_SURROGATE = re.compile("[\ud800-\udfff]")  # from an entity such as &#xD800;, which is no character


def documents(
    piece: Piece,
    bad_input: BadInput,
    mode: str,
    patience: float = extractor.PATIENCE,
    section: Wikipedia | None = None,
    tally: Tally | None = None,
    keys: Keys | None = None,
) -> Iterator[list[str]]:
    """Yield the articles in a range of a dump as lists of lines: the title, unless dropped, and text.

    Mode "article" gives the lines of the article's pipeline, mode "default" cleaned ones, as `section`
    says, and counts in `tally` the parts kept and left out. With `keys` the lists have identities: the
    address of the article in its wiki, if the dump names it, and the id of the page.

    Only articles (namespace 0), no redirects; in default mode only those with text. Damage in the dump,
    and pages that wikiextractor cannot process, are reported to `bad_input`. Also raises InputError for a
    damaged header, and if wikiextractor is missing or does not work. The result depends neither on how
    the dump was cut nor on the day.

    Memory does not depend on the size of the range: 32 MiB of a stream (multistream.HELD), a page, and
    the text on its way through wikiextractor (16 MiB and a page in, 32 MiB out), at most some 150 MB in
    all; plus a gigabyte of address space for each of wikiextractor's three processes.
    """
    path = Path(piece["path"])
    names, base = _header(path, piece["header_end"])
    read = streams if piece["header_end"] else continuous.runs
    articles = _articles(path, read(path, piece["start"], piece["end"], bad_input), bad_input)

    def failed(page: Page, reason: str) -> None:
        bad_input.report(
            "page_failed", f"{page.place}: {reason}; report it to wikiextractor's authors"
        )

    title = piece.get("title", "line") == "line"
    if mode == "article":
        for page, text in extractor.texts(articles, names, failed, patience):
            if lines := _bare(f"{page.title}\n\n{text}" if title else text):
                yield lines if keys is None else Identified(lines, _identity(page, base))
        return
    section = section or Wikipedia()
    templates = Templates(section.templates)
    tally = tally or Tally()
    article = Article(section, templates.names, tally)
    simplified = (_simplified(page, templates, section, tally) for page in articles)
    for page, text in extractor.texts(simplified, names, failed, patience):
        if lines := article.lines(text):
            lines = [*([_title(page)] if title else []), *lines]
            yield lines if keys is None else Identified(lines, _identity(page, base))


def _simplified(page: Page, templates: Templates, section: Wikipedia, tally: Tally) -> Page:
    facts = PageFacts(_title(page), page.revised)
    text = simplify(unescape(page.text.decode()), templates, facts, section, tally)
    return replace(page, text=escape(text, quote=False).encode())


def _title(page: Page) -> str:
    return wikitext.without_controls(unescape(page.title)).strip()


def _identity(page: Page, base: str | None) -> Identity:
    name = unescape(page.title).strip().replace(" ", "_")
    return Identity(None if base is None else base + quote(name, safe="/:,()!*'~@;"), page.id)


def _bare(text: str) -> list[str]:
    """The non-empty lines after `sed 's/<[^>]*>//g'`; surrogates, which cannot be written, replaced."""
    text = _SURROGATE.sub("\ufffd", text)
    return [line for line in (_TAG.sub("", line) for line in text.split("\n")) if line]


def _header(path: Path, header_end: int) -> tuple[list[str], str | None]:
    """The names of the namespaces, escaped as in the XML, and the address before a title, if there is one.

    `header_end` is 0 if the streams do not end with it.
    """
    try:
        text = continuous.header(path, header_end or path.stat().st_size, _HEADER)
    except Damage as damage:
        raise InputError(f"{path}: {damage}; download it again") from None
    names = [name.decode(errors="replace") for name in _NAMESPACE.findall(text[:_HEADER])]
    if not names:
        raise InputError(
            f"{path}: its first stream lists no namespaces; give a pages-articles-multistream dump"
        )
    base = _BASE.search(text[:_HEADER])
    return names, None if base is None else base[1].decode(errors="replace")


def _articles(
    path: Path, texts: Iterator[tuple[int, int, Iterable[bytes]]], bad_input: BadInput
) -> Iterator[Page]:
    for offset, _, pieces in texts:
        place = f"{path}, stream at byte {offset}"
        for before, raw, size in _pages(pieces):
            stray = before.strip()
            if stray and stray != _CLOSING:
                excerpt = stray[:40].decode(errors="replace")
                bad_input.report(
                    "page_malformed",
                    f"{place}: has {excerpt!r} outside a page; download the dump again",
                )
            if raw:
                page = _article(place, raw, size, bad_input)
                if page is not None:
                    yield page


def _pages(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the bytes before a page, the page (only its head if it is above PAGE bytes), and its size.

    The bytes after the last page come with an empty page.
    """
    buffer = bytearray()
    searched = dropped = 0
    head = b""
    for piece in pieces:
        buffer += piece
        while (end := buffer.find(_END, searched)) >= 0:
            size = dropped + end + len(_END)
            if dropped == 0 and size <= PAGE:
                head = bytes(buffer[:size])
            elif not head:
                head = bytes(buffer[:_HEAD])
            before, tag, page = head.partition(b"<page>")
            yield before, tag + page, size
            del buffer[: end + len(_END)]
            searched = dropped = 0
            head = b""
        searched = max(0, len(buffer) - len(_END) + 1)
        if dropped + len(buffer) > PAGE:
            head = head or bytes(buffer[:_HEAD])
            dropped += searched
            del buffer[:searched]
            searched = 0
    yield head + buffer, b"", 0


def _article(stream: str, raw: bytes, size: int, bad_input: BadInput) -> Page | None:
    """The page as an article; None if it is not one, or is skipped as bad input."""
    top, _, rest = raw.partition(b"<revision>")
    title, number, own_id = _TITLE.search(top), _NUMBER.search(top), _ID.search(top)
    if number is not None and (number[1] != b"0" or b"<redirect" in top):
        return None
    name = "" if title is None else unescape(title[1].decode(errors="replace"))
    place = f"{stream}, page {name!r}"
    if size > PAGE:
        bad_input.report(
            "page_too_large",
            f"{place}: {size} bytes, but at most {PAGE} are allowed; remove it from the dump",
        )
        return None
    text = _wikitext(rest)
    if title is None or number is None or text is None or b"\0" in raw:
        bad_input.report(
            "page_malformed",
            f"{place}: not a page of a MediaWiki export (one title, namespace and revision, no NUL); "
            "download the dump again",
        )
        return None
    try:
        text.decode()
        return extractor.Page(
            title[1].decode(),
            _dated(text, rest),
            place,
            _revised(rest),
            None if own_id is None else own_id[1].decode(),
        )
    except UnicodeDecodeError as error:
        bad_input.report(
            "not_utf8", f"{place}: byte {error.start} is not UTF-8; download the dump again"
        )
        return None


def _wikitext(revision: bytes) -> bytes | None:
    """The wikitext of a page's revision, still escaped; None unless there is exactly one."""
    opening = _TEXT.search(revision)
    if opening is None:
        return None
    if opening[0].endswith(b"/>"):
        return b"" if b"<text" not in revision[opening.end() :] else None
    text, closing, after = revision[opening.end() :].partition(b"</text>")
    return text if closing and b"<" not in text and b"<text" not in after else None


def _revised(revision: bytes) -> tuple[int, int, int] | None:
    """Year, month and day of a revision."""
    timestamp = _TIMESTAMP.search(revision)
    return (int(timestamp[1]), int(timestamp[2]), int(timestamp[3])) if timestamp else None


def _dated(text: bytes, revision: bytes) -> bytes:
    """The wikitext with {{CURRENTYEAR}} and the like set to the time of the revision.

    wikiextractor would insert the time of its run, and the corpus would depend on the day.
    """
    timestamp = _TIMESTAMP.search(revision)
    names = (b"YEAR", b"MONTH", b"DAY", b"HOUR", b"TIME")
    values = dict(zip(names, timestamp.groups(), strict=True)) if timestamp else {}
    if timestamp:
        values[b"TIME"] = values[b"HOUR"] + b":" + values[b"TIME"]
    return _CURRENT_TIME.sub(lambda match: values.get(match[1].upper(), b""), text)
