"""Links of the Markdown files: relative ones lead to a file and a heading, others are https."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from docs import site
from tests.markdown import ROOT, anchors, links

if TYPE_CHECKING:
    from pathlib import Path

_NOT_OURS = {".git", "site", "work", "build", "dist", "node_modules"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(
        part in _NOT_OURS or part.startswith(".venv") for part in path.relative_to(ROOT).parts
    )
)


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere, and why."""
    found = []
    for link in links(page.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if ":" in place.partition("/")[0]:
            if not place.startswith("https://"):
                found.append(f"{link}: is not https")
            continue
        target = page.parent / unquote(place) if place else page
        if not target.exists():
            found.append(f"{link}: there is no such file")
        elif anchor and unquote(anchor) not in anchors(target.read_text(encoding="utf-8")):
            found.append(f"{link}: has no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert not broken(page)


def test_pages_of_docs_link_to_what_is_in_the_site() -> None:
    there = {ROOT / name for name in site.BESIDE}
    for page in (ROOT / "docs").glob("*.md"):
        for link in links(page.read_text(encoding="utf-8")):
            if not link.startswith(("https:", "#")):
                target = (page.parent / unquote(link.partition("#")[0])).resolve()
                assert target in there or target.is_relative_to(page.parent), f"{page.name}: {link}"


def test_links_and_anchors_are_found(tmp_path: Path) -> None:
    other, page = tmp_path / "other.md", tmp_path / "page.md"
    other.write_text(
        "# One `two`, three: (x)\n```sh\n# no heading\n```\n## 日本語の見出し\n## Twice\n## Twice\n",
        encoding="utf-8",
    )
    page.write_text(
        "[a](other.md) [b](other.md#one-two-three-x) ![c](gone.png) [d](other.md#no-heading)\n"
        "[e](other.md#日本語の見出し) [f](other.md#twice-1) [g](#nothing) [h](http://example.com/a_(b))\n"
        '[![i](gone.svg)](https://example.com) <img src="gone.jpg"> `[j](in-code.md)`\n'
        "```\n[k](in-a-block.md)\n```\n[l]: gone.md\n",
        encoding="utf-8",
    )
    assert [line.partition(":")[0] for line in broken(page)] == [
        "gone.png", "other.md#no-heading", "#nothing", "http", "gone.svg", "gone.jpg", "gone.md",
    ]  # fmt: skip


def test_the_site_has_every_page_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- (\S+\.md)$", text.partition("\nnav:\n")[2], re.MULTILINE)
    there = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert sorted(listed) == sorted({*there, *site.BESIDE})


def test_links_of_pages_beside_docs_are_those_of_the_site() -> None:
    def rewritten(name: str, text: str) -> str:
        return site.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_path=name)))

    assert rewritten("design.md", "[a](../CONTRIBUTING.md#test)") == "[a](CONTRIBUTING.md#test)"
    assert rewritten("CONTRIBUTING.md", "[a](docs/design.md)") == "[a](design.md)"
