"""Packs the demo's texts as the real ones come: a multistream dump with its index, and an xz file.

    python configs/demo/pack.py

reads articles/ and web.txt beside it, all written for this project (Apache-2.0), and writes
jawiki-demo-pages-articles-multistream.xml.bz2, its index, and web.txt.xz. A test holds the packed
files against the texts.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
STREAM_PAGES = 10  # 100 in the original
HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="ja">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>jawiki</dbname>
    <base>https://example.org/wiki/main</base>
    <generator>ekiden demo</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="4" case="first-letter">Wikipedia</namespace>
      <namespace key="10" case="first-letter">Template</namespace>
      <namespace key="14" case="first-letter">Category</namespace>
    </namespaces>
  </siteinfo>
"""
# What stands among the articles of a real dump, and is not for the corpus.
OTHERS = [
    ("エキデン", 0, "駅伝競走", "#転送 [[駅伝競走]]"),
    ("Template:Infobox 町", 10, None, "<includeonly>'''{{{名前}}}'''</includeonly>"),
    ("Wikipedia:井戸端", 4, None, "ここは記事について話し合うための頁です。"),
]


def main() -> None:
    """Write the packed files."""
    dump, index = multistream()
    name = "jawiki-demo-pages-articles-multistream"
    (HERE / f"{name}.xml.bz2").write_bytes(dump)
    (HERE / f"{name}-index.txt.bz2").write_bytes(bz2.compress(index.encode()))
    (HERE / "web.txt.xz").write_bytes(lzma.compress((HERE / "web.txt").read_bytes()))


def multistream() -> tuple[bytes, str]:
    """The dump, a row of bz2 streams, and its index, a line `offset:page id:title` for each page."""
    pages = []
    for path in sorted((HERE / "articles").glob("*.wiki")):
        title, _, text = path.read_text(encoding="utf-8").partition("\n\n")
        pages.append((title.strip(), 0, None, text.strip()))
    pages[20:20] = OTHERS
    dump = bz2.compress(HEADER.encode())
    index = ""
    for start in range(0, len(pages), STREAM_PAGES):
        numbered = zip(
            itertools.count(start + 1), pages[start : start + STREAM_PAGES], strict=False
        )
        stream = ""
        for number, (title, namespace, redirect, text) in numbered:
            index += f"{len(dump)}:{number}:{title}\n"
            stream += page(number, title, namespace, redirect, text)
        dump += bz2.compress(stream.encode())
    return dump + bz2.compress(b"</mediawiki>\n"), index


def page(number: int, title: str, namespace: int, redirect: str | None, text: str) -> str:
    """One page as MediaWiki's export has it."""
    target = f'    <redirect title="{escape(redirect)}" />\n' if redirect else ""
    return f"""  <page>
    <title>{escape(title)}</title>
    <ns>{namespace}</ns>
    <id>{number}</id>
{target}    <revision>
      <id>{1000 + number}</id>
      <timestamp>2026-11-01T00:00:00Z</timestamp>
      <contributor><username>ekiden</username><id>1</id></contributor>
      <model>wikitext</model>
      <format>text/x-wiki</format>
      <text bytes="{len(text.encode())}" xml:space="preserve">{escape(text, quote=False)}</text>
    </revision>
  </page>
"""


if __name__ == "__main__":
    main()
