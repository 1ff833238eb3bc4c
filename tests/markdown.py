"""Markdown as the tests read it: the commands of a page, its headings and its links.

    for block in blocks(page):
        block.needs, block.commands          # None where a test runs it; words, a command each

A command of a page stands in a block that opens with ```sh, one a line. A block that needs more than a
laptop has `<!-- needs: a cluster -->` or the like on the line before it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
NEEDS = ("a cluster", "a GPU", "the network", "days", "root", "your files")
_FENCE = re.compile(r"( *)(`{3,}|~{3,})\s*([^`]*)$")
_NEEDS = re.compile(r"\s*<!-- needs: (.+) -->\s*")
_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*\s*$")
_TARGET = r"<?([^\s()<>]+(?:\([^\s()]*\)[^\s()<>]*)*)>?"
_LINK = re.compile(rf"\]\(\s*{_TARGET}(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\s{0,3}\[[^\]^]+\]:\s+<?(\S+?)>?(?:\s+\".*\")?\s*$")
_HTML = re.compile(r"<(?:a|img|source|link)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"")
_NAMED = re.compile(r"<a\b[^>]*\b(?:id|name)=\"([^\"]+)\"")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_BETWEEN = {";", "&&", "||", "|", "&", "(", ")"}


@dataclass(frozen=True)
class Block:
    """A block of shell commands."""

    page: Path
    line: int  # of its first command
    needs: str | None
    text: str

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, as `commands` has them."""
        return [words for _, line in statements(self.text) for words in commands(line)]


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that somebody reads for what to type."""
    top = (root / name for name in ("README.md", "README.ja.md", "CONTRIBUTING.md"))
    return [*(path for path in top if path.is_file()), *sorted((root / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of shell commands of a page."""
    for number, language, text, before in _fenced(page.read_text(encoding="utf-8")):
        if language == "sh":
            needs = _NEEDS.fullmatch(before)
            yield Block(page, number, needs[1] if needs else None, text)


def printed(page: Path) -> Iterator[tuple[Block, int, str]]:
    """Each block of text right after one of commands: that one, the number of its first line, its text."""
    last: Block | None = None
    for number, language, text, before in _fenced(page.read_text(encoding="utf-8")):
        if language == "text" and last is not None:
            yield last, number, text
        needs = _NEEDS.fullmatch(before)
        last = Block(page, number, needs[1] if needs else None, text) if language == "sh" else None


def statements(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a shell script as they stand, and as one line without a here-document."""
    lines = iter(text.splitlines(keepends=True))
    for line in lines:
        written, joined = line, line.rstrip("\n")
        while joined.endswith("\\"):
            more = next(lines, "")
            written, joined = written + more, joined[:-1] + more.strip()
        if end := _HEREDOC.search(joined):
            joined = joined[: end.start()] + joined[end.end() :]
            for more in lines:
                written += more
                if more.strip() == end[2]:
                    break
        if joined.strip() and not joined.lstrip().startswith("#"):
            yield written, joined.strip()


def commands(line: str) -> list[list[str]]:
    """The words of each simple command of a line, without redirections and variables set for it."""
    return [*_simple(line)]


def anchors(text: str) -> set[str]:
    """What a link may name after #: of each heading as GitHub makes it, and anchors in HTML."""
    found: set[str] = set()
    times: dict[str, int] = {}
    for line in prose(text):
        found.update(_NAMED.findall(line))
        if heading := _HEADING.match(line):
            slug = _slug(heading[1])
            times[slug] = times.get(slug, -1) + 1
            found.add(f"{slug}-{times[slug]}" if times[slug] else slug)
    return found


def links(text: str) -> list[str]:
    """The targets of all links and pictures."""
    found = []
    for line in prose(text):
        plain = re.sub(r"`[^`]*`", "", line)
        found += _LINK.findall(plain) + _HTML.findall(plain) + _REFERENCE.findall(plain)
    return found


def prose(text: str) -> Iterator[str]:
    """The lines outside of fenced blocks."""
    fence = None
    for line in text.splitlines():
        opened = _FENCE.match(line)
        if fence is None:
            if opened:
                fence = opened[2]
            else:
                yield line
        elif opened and opened[2].startswith(fence) and not opened[3]:
            fence = None


def _fenced(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Of each fenced block: the number of its first line, its language, its text, the line before it."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opened = _FENCE.match(lines[at])
        if not opened:
            at += 1
            continue
        indent, fence, language = opened.groups()
        end = at + 1
        while end < len(lines):
            closing = _FENCE.match(lines[end])
            if closing and closing[2].startswith(fence) and not closing[3]:
                break
            end += 1
        inside = [line.removeprefix(indent) for line in lines[at + 1 : end]]
        before = lines[at - 1] if at else ""
        yield at + 2, language.strip(), "".join(f"{line}\n" for line in inside), before
        at = end + 1


def _simple(line: str) -> Iterator[list[str]]:
    """The simple commands of a line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _BETWEEN:
            words.append(word)
        elif words:
            yield _without_redirections(words)
            words = []


def _without_redirections(words: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif set(word) <= set("<>&") and word:
            skip = True
            if kept and kept[-1].isdecimal():  # 2>
                kept.pop()
        elif kept or not re.fullmatch(r"[A-Za-z_]\w*=.*", word):
            kept.append(word)
    return kept


def _slug(heading: str) -> str:
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link's text
    plain = re.sub(r"<[^>]*>", "", plain)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
