"""Wikipedia: a multistream dump as ranges of bz2 streams, and their articles as documents.

A multistream dump is a row of bz2 streams: a header, then pages (100 a stream), then a closing tag.
A range of streams decompresses on its own (multistream). Wikitext becomes text by wikiextractor 3.1,
run as a program of its own (extractor), and what that leaves is cleaned (wikitext).
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

from kit.corpus.dump import extractor, wikitext
from kit.corpus.dump.multistream import Damage, Stream, stream_ranges, streams
from kit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kit.corpus.bad_input import BadInput
    from kit.corpus.dump.extractor import Page
    from kit.store.records import Piece

__all__ = ["PAGE", "documents", "stream_ranges"]

PAGE = 4 << 20  # bytes of XML; MediaWiki takes pages of 2 MiB, and &quot; makes six bytes of one
_HEADER = 1 << 20  # bytes of its text; a real one has 2 kB
_HEAD = 4096  # bytes of a page that is too large, to name it by
_CLOSING = b"</mediawiki>"
_END = b"</page>"
_NAMESPACE = re.compile(rb'<namespace key="-?\d+"[^>]*>([^<>\n]+)</namespace>')
_TITLE = re.compile(rb"<title>([^<>\n]+)</title>")
_NUMBER = re.compile(rb"<ns>\s*(-?\d+)\s*</ns>")
_TEXT = re.compile(rb"<text\b[^>]*>")
_TIMESTAMP = re.compile(rb"<timestamp>(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d:\d\d)Z</timestamp>")
# What wikiextractor would replace by the time of the run; MediaWiki reads the name in any case.
_NOW = re.compile(rb"\{\{\s*CURRENT(YEAR|MONTH|DAY|HOUR|TIME)\s*\}\}", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_SURROGATE = re.compile("[\ud800-\udfff]")  # an entity such as &#xD800; is no character


def documents(
    piece: Piece,
    faults: BadInput,
    mode: str,
    patience: float = extractor.PATIENCE,
) -> Iterator[list[str]]:
    """The articles in a range of a dump, each as its lines: the title, unless it is dropped, and text.

    In mode "article" as the article's pipeline had them, else (mode "default") cleaned.
    Only articles (namespace 0), no redirects; in default mode only those that have text. Where the
    dump is damaged, or wikiextractor cannot do a page, that goes through `faults`. Raises InputError
    also for a damaged header, and where wikiextractor is missing or does not work. What comes out
    does not depend on how the dump was cut, nor on the day.

    Memory does not depend on the size of the range: 32 MiB of a stream (multistream.HELD), a page,
    and what is on its way through wikiextractor (16 MiB and a page in, 32 MiB out), some 150 MB in
    all at the worst; and a gigabyte of address space for each of the three processes of it.
    """
    path = Path(piece["path"])
    names = _namespaces(path, piece["header_end"])
    articles = _articles(path, piece["start"], piece["end"], faults)

    def failed(page: Page, reason: str) -> None:
        faults.report("page_failed", f"{page.place}: {reason}; report it to wikiextractor")

    title = piece.get("title", "line") == "line"
    for page, text in extractor.texts(articles, names, failed, patience):
        if mode == "article":
            lines = _bare(f"{page.title}\n\n{text}" if title else text)
        else:
            lines = wikitext.clean(text)
            if lines and title:
                lines.insert(0, wikitext.without_controls(unescape(page.title)).strip())
        if lines:
            yield lines


def _bare(text: str) -> list[str]:
    """What `sed 's/<[^>]*>//g'` leaves, without empty lines; surrogates cannot be written."""
    text = _SURROGATE.sub("\ufffd", text)
    return [line for line in (_TAG.sub("", line) for line in text.split("\n")) if line]


def _namespaces(path: Path, header_end: int) -> list[str]:
    """The names of the namespaces, as in the XML. Nothing else of the header is used."""
    text = b""
    with path.open("rb") as file:
        try:
            for piece in Stream(file, 0, header_end):
                text += piece
                if len(text) > _HEADER:
                    break
        except Damage as damage:
            raise InputError(f"{path}: {damage}; download it again") from None
    names = [name.decode(errors="replace") for name in _NAMESPACE.findall(text[:_HEADER])]
    if not names:
        raise InputError(
            f"{path}: its first stream names no namespaces; give a pages-articles-multistream dump"
        )
    return names


def _articles(path: Path, start: int, end: int, faults: BadInput) -> Iterator[Page]:
    for at, pieces in streams(path, start, end, faults):
        where = f"{path}, stream at byte {at}"
        for before, raw, size in _pages(pieces):
            stray = before.strip()
            if stray and stray != _CLOSING:
                shown = stray[:40].decode(errors="replace")
                faults.report(
                    "page_malformed",
                    f"{where}: holds what is no page, {shown!r}; download the dump again",
                )
            if raw:
                page = _article(where, raw, size, faults)
                if page is not None:
                    yield page


def _pages(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    """What stands before a page, the page (of one above PAGE bytes its head), and its size.

    At the end, what stands behind the last page comes with an empty one.
    """
    buffer = bytearray()
    looked = dropped = 0
    head = b""
    for piece in pieces:
        buffer += piece
        while (found := buffer.find(_END, looked)) >= 0:
            size = dropped + found + len(_END)
            if dropped == 0 and size <= PAGE:
                head = bytes(buffer[:size])
            elif not head:
                head = bytes(buffer[:_HEAD])
            before, tag, page = head.partition(b"<page>")
            yield before, tag + page, size
            del buffer[: found + len(_END)]
            looked = dropped = 0
            head = b""
        looked = max(0, len(buffer) - len(_END) + 1)
        if dropped + len(buffer) > PAGE:
            head = head or bytes(buffer[:_HEAD])
            dropped += looked
            del buffer[:looked]
            looked = 0
    yield head + buffer, b"", 0


def _article(where: str, raw: bytes, size: int, faults: BadInput) -> Page | None:
    """The page as an article; None where it is none, or is passed over."""
    top, _, rest = raw.partition(b"<revision>")
    title, number = _TITLE.search(top), _NUMBER.search(top)
    if number is not None and (number[1] != b"0" or b"<redirect" in top):
        return None
    name = "" if title is None else unescape(title[1].decode(errors="replace"))
    place = f"{where}, page {name!r}"
    if size > PAGE:
        faults.report(
            "page_too_large", f"{place}: {size} bytes, and {PAGE} are allowed; cut it out"
        )
        return None
    text = _wikitext(rest)
    if title is None or number is None or text is None or b"\0" in raw:
        faults.report(
            "page_malformed",
            f"{place}: not a page as MediaWiki exports it (a title, a namespace, one revision, no "
            "NUL); download the dump again",
        )
        return None
    try:
        text.decode()
        return extractor.Page(title[1].decode(), _dated(text, rest), place)
    except UnicodeDecodeError as error:
        faults.report(
            "not_utf8", f"{place}: byte {error.start} of it is not UTF-8; download the dump again"
        )
        return None


def _wikitext(revision: bytes) -> bytes | None:
    """The wikitext of the one revision of a page, still escaped; None where there is not one."""
    opening = _TEXT.search(revision)
    if opening is None:
        return None
    if opening[0].endswith(b"/>"):
        return b"" if b"<text" not in revision[opening.end() :] else None
    text, closing, after = revision[opening.end() :].partition(b"</text>")
    return text if closing and b"<" not in text and b"<text" not in after else None


def _dated(text: bytes, revision: bytes) -> bytes:
    """The wikitext with {{CURRENTYEAR}} and the like as they were when it was written.

    wikiextractor would put in the time of its run, and the corpus would depend on the day.
    """
    written = _TIMESTAMP.search(revision)
    names = (b"YEAR", b"MONTH", b"DAY", b"HOUR", b"TIME")
    values = dict(zip(names, written.groups(), strict=True)) if written else {}
    if written:
        values[b"TIME"] = values[b"HOUR"] + b":" + values[b"TIME"]
    return _NOW.sub(lambda found: values.get(found[1].upper(), b""), text)
