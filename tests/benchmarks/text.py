"""Real Japanese for the benchmarks: the manuals of Debian, or the files that --data names.

One paragraph a line, an empty line behind each page. The packages are fetched with apt-get, once, and
the text is kept under work/benchmarks.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from kit.corpus import wikipedia
from kit.corpus.bad_input import BadInput
from kit.data.shards import LINE_END, SPACE
from kit.store.files import file_hash
from tests.benchmarks.harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.harness import Options

FOLDER = ROOT / "work" / "benchmarks"
PACKAGES = (
    "debian-reference-ja",
    "developers-reference-ja",
    "libreoffice-help-ja",
    "maint-guide-ja",
    "manpages-ja",
    "manpages-ja-dev",
)
_SIZE = 100_000_000  # bytes; the manuals are repeated until they come to it
_MARKS = {ord(SPACE): None, ord(LINE_END): None}  # a peer does not know that the kit replaces them
_KANA = re.compile("[ぁ-ヿ]")
_BLOCKS = frozenset(
    ("address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "footer", "form",
     "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre",
     "section", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul")
)  # fmt: skip
_NO_TEXT = frozenset(("script", "style", "nav", "button"))
_ESCAPES = re.compile(r"\\(?:f(?:\(..|\[[^]]*\]|.)|s[-+]?\d|[&|^/,%:]|\*\(..|\*\[[^]]*\])")
_SIGNS = {r"\-": "-", r"\ ": " ", r"\~": " ", r"\e": "\\", r"\(aq": "'", r"\(lq": '"', r"\(rq": '"'}


def text(options: Options) -> Path:
    """A text file in UTF-8: 100 MB of manuals, or the text of the files and dumps given, as they follow.

    Exits with one line where the packages cannot be fetched.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    if options.data:
        path = FOLDER / "data.txt"
        with path.open("w", encoding="utf-8") as out:
            for source in options.data:
                out.writelines(line.translate(_MARKS) for line in _lines(source))
        return path
    path = FOLDER / "manuals.txt"
    if not path.exists():
        pages = "".join(f"{page}\n" for page in _pages()).translate(_MARKS).encode()
        new = path.with_suffix(".new")
        with new.open("wb") as out:
            for _ in range(-(-_SIZE // len(pages))):
                out.write(pages)
        new.rename(path)
    return path


def _lines(source: Path) -> Iterator[str]:
    """The lines of a text file, or of the articles of a dump, an empty one behind each."""
    if source.suffix != ".bz2":
        with source.open(encoding="utf-8", newline="\n") as lines:
            yield from lines
        return
    header_end, ranges = wikipedia.stream_ranges(source, source.stat().st_size)
    piece = {"path": str(source), "kind": "wikipedia", "title": "line", "header_end": header_end}
    piece |= {"start": ranges[0][0], "end": ranges[-1][1], "size": source.stat().st_size}
    piece |= {"mtime_ns": source.stat().st_mtime_ns, "xxh3": ""}
    piece["xxh3"] = file_hash(source, ranges[0][0], ranges[-1][1])
    for article in wikipedia.documents(piece, BadInput("skip"), "default"):
        yield from (f"{line}\n" for line in [*article, ""])


def _pages() -> Iterator[str]:
    """The pages of the packages that hold Japanese, a paragraph a line."""
    for package in PACKAGES:
        for path in sorted(_unpacked(package).rglob("*")):
            if path.suffix == ".html" and path.is_file():
                paragraphs = _html(path.read_text(encoding="utf-8", errors="replace"))
            elif path.suffix == ".gz" and path.parent.name.startswith("man") and path.is_file():
                paragraphs = _troff(gzip.decompress(path.read_bytes()).decode(errors="replace"))
            else:
                continue
            page = "".join(f"{line}\n" for line in paragraphs if _KANA.search(line))
            if page:
                yield page


def _unpacked(package: str) -> Path:
    folder = FOLDER / package
    if not folder.exists():
        _run("apt-get", "download", package)
        deb = next(FOLDER.glob(f"{package}_*.deb"))
        new = FOLDER / f"{package}.new"
        _run("dpkg-deb", "-x", str(deb), str(new))
        new.rename(folder)
        deb.unlink()
    return folder


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"no {command[0]} here to fetch Debian's manuals; name text files with --data")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        sys.exit(f"{' '.join(command)}: {last}; name text files with --data, or try again")


def _html(source: str) -> list[str]:
    page = _Paragraphs()
    page.feed(source)
    page.close()
    page.end()
    return page.found


class _Paragraphs(HTMLParser):
    """The text of a page, cut at the tags that make a browser begin a line."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._held: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _NO_TEXT
        if tag in _BLOCKS:
            self.end()

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _NO_TEXT
        if tag in _BLOCKS:
            self.end()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._held.append(data)

    def end(self) -> None:
        """The paragraph is complete."""
        line = re.sub(r"[ \n\t\r]+", " ", "".join(self._held)).strip()
        self._held.clear()
        if line:
            self.found.append(line)


def _troff(source: str) -> list[str]:
    """The filled paragraphs of a manual page; a request ends one, but for a change of the font."""
    found, held = [], []
    for line in [*source.splitlines(), "."]:
        request = re.match(r"[.'] *(\w*) *(.*)", line)
        if request is None and line.strip():
            held.append(_plain(line))
        elif request and re.fullmatch("[BIR]{1,2}|SM|SB", request[1]):
            held.append(_plain(request[2].replace('"', "")))
        elif held:
            found.append(" ".join(held))
            held = []
    return found


def _plain(line: str) -> str:
    line = _ESCAPES.sub("", line)
    for escape, sign in _SIGNS.items():
        line = line.replace(escape, sign)
    return line.strip()
