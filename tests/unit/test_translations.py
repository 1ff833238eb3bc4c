"""Pages in Japanese have the commands, outputs, headings, tables, links and names of those in English."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRANSLATED = [ROOT / "README.ja.md", *sorted((ROOT / "docs").glob("*.ja.md"))]
_BLOCK = re.compile(r"(<!-- needs: [^\n]* -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.*)", re.MULTILINE)
_CODE = re.compile(r"`[^`]*`")
_LABEL = re.compile(r'"[^"]*"|\|[^|]*\||\[[^\]]*\]|\{[^}]*\}')


def english(page: Path) -> Path:
    """The page that another one translates."""
    return page.with_name(page.name.replace(".ja.md", ".md"))


def prose(text: str) -> str:
    """A page without its blocks, and without the line that leads to the other language."""
    return _BLOCK.sub("", re.sub(r"^.*\[(日本語|English)\]\(.*\n", "", text, flags=re.MULTILINE))


def kinds(page: Path) -> list[tuple[str, str]]:
    """What each block needs, and its language."""
    return [(needs, language) for needs, language, _ in _BLOCK.findall(page.read_text("utf-8"))]


def commands(page: Path) -> list[str]:
    """What a reader types or pastes; its comments may be in either language."""
    return [
        re.sub(r"\s+#.*", "", body)
        for _, language, body in _BLOCK.findall(page.read_text("utf-8"))
        if language in {"sh", "yaml", "python"}
    ]


def outputs(page: Path) -> list[str]:
    """What the program prints. README's only block of text is a list of folders, with remarks."""
    blocks = _BLOCK.findall(page.read_text("utf-8"))
    return [body for _, language, body in blocks if language == "text" and page.parent != ROOT]


def drawings(page: Path) -> list[str]:
    """The diagrams without their labels."""
    blocks = _BLOCK.findall(page.read_text("utf-8"))
    return [_LABEL.sub("", body) for _, language, body in blocks if language == "mermaid"]


def headings(page: Path) -> list[int]:
    """The level of each heading."""
    return [len(level) for level, _ in _HEADING.findall(prose(page.read_text("utf-8")))]


def tables(page: Path) -> list[list[int]]:
    """The number of cells in each row of each table."""
    text = _CODE.sub("", prose(page.read_text("utf-8")))
    found = re.finditer(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[row.count("|") - 1 for row in table.group().splitlines()] for table in found]


def names(page: Path) -> set[str]:
    """All that stands in backquotes: keys, files, messages, values."""
    return {*_CODE.findall(prose(page.read_text("utf-8")))}


def targets(page: Path) -> list[str]:
    """The targets of links and pictures, sorted: pages in English, headings by their numbers."""
    text = prose(page.read_text("utf-8"))
    found = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"', text)
    return sorted(_target(page, link or picture) for link, picture in found)


def _target(page: Path, link: str) -> str:
    path, _, anchor = link.partition("#")
    there = page.parent / path if path else page
    if anchor:
        anchor = f"#{slugs(there).index(anchor)}"
    return re.sub(r"\.ja\.md$", ".md", path) + anchor


def slugs(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return [
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for _, heading in _HEADING.findall(prose(page.read_text("utf-8")))
    ]


def test_the_pages_have_what_is_compared() -> None:
    def total(part: Callable[[Path], list[str]]) -> int:
        return sum(len(part(page)) for page in TRANSLATED)

    assert len(TRANSLATED) >= 4
    assert total(commands) >= 10
    assert total(outputs) >= 10
    assert total(drawings) >= 3
    assert total(targets) >= 50


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
@pytest.mark.parametrize(
    "part", [kinds, commands, outputs, drawings, headings, tables, names, targets]
)
def test_a_page_is_the_same_in_japanese(part: Callable[[Path], object], page: Path) -> None:
    assert part(english(page)) == part(page)


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_page_and_its_translation_lead_to_each_other(page: Path) -> None:
    assert english(page).read_text("utf-8").splitlines()[2] == f"English · [日本語]({page.name})"
    assert page.read_text("utf-8").splitlines()[2] == f"[English]({english(page).name}) · 日本語"


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_page_in_japanese_leads_to_pages_in_japanese(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+\.md)", prose(page.read_text("utf-8"))):
        assert page.parent / link not in {*map(english, TRANSLATED)}, link
