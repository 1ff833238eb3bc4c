"""The README says the same in both languages, and shows its pictures."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

ENGLISH, JAPANESE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md")
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    return [body for language, body in _BLOCK.findall(text) if language == "sh"]


def prose(text: str) -> str:
    return _BLOCK.sub("", text)


def targets(text: str) -> list[str]:
    """The targets of links and pictures, sorted; a page in Japanese counts as the English one."""
    found = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"', prose(text))
    return sorted(re.sub(r"\.ja\.md\b", ".md", link or picture) for link, picture in found)


def headings(text: str) -> list[str]:
    return re.findall(r"^(#+) ", prose(text), re.MULTILINE)


def tables(text: str) -> list[int]:
    """The number of rows of each table, in order."""
    return [
        found.group().count("\n")
        for found in re.finditer(r"(?:^\|.*\n)+", prose(text), re.MULTILINE)
    ]


def test_the_pages_have_what_is_compared() -> None:
    assert len(commands(ENGLISH)) >= 2
    assert len(targets(ENGLISH)) >= 20
    assert len(tables(ENGLISH)) >= 2


@pytest.mark.parametrize("part", [commands, targets, headings, tables])
def test_the_readme_is_the_same_in_japanese(part: object) -> None:
    assert callable(part)
    assert part(ENGLISH) == part(JAPANESE)


def test_the_kinds_of_blocks_are_the_same_in_japanese() -> None:
    assert [kind for kind, _ in _BLOCK.findall(ENGLISH)] == [
        kind for kind, _ in _BLOCK.findall(JAPANESE)
    ]


def test_what_a_block_needs_is_said_in_both() -> None:
    marks = [re.findall(r"<!-- needs: .* -->", text) for text in (ENGLISH, JAPANESE)]
    assert marks[0] == marks[1]


def test_the_readme_is_short() -> None:
    assert ENGLISH.count("\n") <= 130


@pytest.mark.parametrize("name", ["demo.svg", "loss.svg", "loss-dark.svg"])
def test_a_picture_is_shown_and_small(name: str) -> None:
    assert f"docs/pictures/{name}" in targets(ENGLISH)
    assert (ROOT / "docs" / "pictures" / name).stat().st_size < 100_000
